"""Faults in optimisers and schedules."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "optim/sgd.py": {
        "the group's momentum ignored": ("rate, group[\"momentum\"], group[\"weight_decay\"]", "rate, 0.9, group[\"weight_decay\"]"),
    },
    "optim/optimizer.py": {
        "the group's rate ignored": ("rate = self.lr * group[\"lr_scale\"]", "rate = self.lr"),
        "velocity stays on the old device": ("tensor.move(p.device)", "pass"),
        "velocities loaded without a copy": ("value = p.device.upload(np.asarray(arrays[name], order=\"C\"))", "value = np.asarray(arrays[name], order=\"C\")"),
        "gradients not forgotten": ("p.zero_grad()", "pass"),
    },
    "optim/lr_scheduler.py": {
        "milestone one epoch late": ("milestone <= epoch", "milestone < epoch"),
        "rates multiplied on": ("self.min_lr + (self.first_lr - self.min_lr) * self.factor(epoch)", "self.min_lr + (self.optimizer.lr - self.min_lr) * self.factor(epoch)"),
        "patience one epoch short": ("if self.waited > self.patience:", "if self.waited >= self.patience:"),
        "waiting not begun again": ("self.best, self.waited = error, 0", "self.best = error"),
        "below the least rate": ("max(lr / self.factor, self.min_lr)", "lr / self.factor"),
    },
}
