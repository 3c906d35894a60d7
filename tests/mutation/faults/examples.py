"""Faults in the example programs: AlexNet, its variants, the paper's statements, the history."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "examples/alexnet.py": {
        "the border at the top and the left": ("F.pad(x, (0, self.border, 0, self.border))", "F.pad(x, (self.border, 0, self.border, 0))"),
        "biases of all layers decay": ("({} if p.bias_decay else dict(weight_decay=0.0))", "({} if not p.bias_decay else dict(weight_decay=0.0))"),
        "fc7's biases start at 0": ("ones=(\"conv2\", \"conv4\", \"conv5\", \"fc6\", \"fc7\"),", "ones=(\"conv2\", \"conv4\", \"conv5\", \"fc6\"),"),
        "the rate falls twice": ("min_lr=optimizer.lr / 1000", "min_lr=optimizer.lr / 100"),
        "old checkpoints scale dropout in use": ("about.get(\"net\", dict(inverted=True))", "about.get(\"net\", {})"),
        "the variant of a checkpoint is forgotten": ("varied(PRESETS[about[\"preset\"]], about.get(\"variant\"))", "PRESETS[about[\"preset\"]]"),
        "columns are made for each tower": ("len(xs) > 1 and xs[0] is xs[1]", "False"),
        "rates of biases stay common": ("lr_scale=rate, **more))", "lr_scale=rate if kind == 'weight' else 1.0, **more))"),
        "dropout always inverted": ("nn.Dropout(p.dropout, p.inverted)", "nn.Dropout(p.dropout)"),
        "features of a layer before its norm and pool": ("            if name == layer:\n                break", "            if name == layer:\n                xs = [getattr(tower, name)(x) for tower, x in zip(self.towers, xs, strict=True)]\n                break"),
        "colour noise ends with conv1": ("(67, \"colour\", \"0\")", "(72, \"colour\", \"0\")"),
        "the program of 2012 subtracts the whole mean": ("noise_scale=1 / 1.1, centre_mean=True, crop_chunk=32", "noise_scale=1 / 1.1, crop_chunk=32"),
    },
    "examples/variants.py": {
        "what follows a layer left out comes first": ("after[before] = f\"{after.get(before, '')} {after.pop(layer, '')}\".strip()", "after[before] = f\"{after.pop(layer, '')} {after.get(before, '')}\".strip()"),
        "no one sees both towers in its place": ("tuple(behind if name == layer else name for name in p.crossings)", "tuple(name for name in p.crossings if name != layer)"),
        "48 kernels where there are fewer": ("max(32, p.kernels[0])", "max(48, p.kernels[0])"),
        "four layers decay": ("        \"decay\": 0.0,\n", ""),
        "one tower of half the neurons": ("hidden=2 * p.hidden", "hidden=p.hidden"),
        "tuned conv1 as slow as the others": ("\"conv1\": 0.01 * p", "\"conv1\": 0.1 * p"),
        "late ReLU stays under tanh": ("late = said(\"relu\", \"\")(p)[\"after\"]", "late = p.after"),
    },
    "examples/prepare_imagenet.py": {
        "--max-bad 0 bears a hundredth": ("0.01 if args.max_bad is None else args.max_bad", "args.max_bad or 0.01"),
        "problems found end well": ("return 1 if problems else 0", "return 0"),
        "signals stay caught": ("            signal.signal(getattr(signal, name), handler)\n\n", "            pass\n\n"),
        "--quality with --raw is passed over": ("given & {\"quality\", \"chroma\"}", "given & {\"chroma\"}"),
        "--val-share forgotten": ("(\"size\", \"quality\", \"shard\", \"chroma\", \"val_share\")", "(\"size\", \"quality\", \"shard\", \"chroma\")"),
    },
    "examples/features.py": {
        "labels of the rows are not kept": ("batches, found[\"labels\"] = loader.epoch(0), train.labels", "batches = loader.epoch(0)"),
        "receptive field without the layer itself": ("model.preset.layers[: model.preset.layers.index(layer) + 1]", "model.preset.layers[: model.preset.layers.index(layer)]"),
        "a layer's name is forgotten": ("features(model, batches, inputs, layer, job)", "features(model, batches, inputs, \"\", job)"),
    },
    "examples/similar.py": {
        "test:N one too far": ("int(name[5:]) >= len(test)", "int(name[5:]) > len(test)"),
        "the classes of training pictures by their place": ("train.classes[train.labels[place]]", "train.classes[train.labels[place] - 1]"),
    },
    "examples/paper/comparing.py": {
        "one degree of freedom too many": ("T[min(len(d), len(T) + 1) - 2]", "T[min(len(d), len(T)) - 1]"),
        "deviation of the whole population": ("np.std(values, ddof=1)", "np.std(values)"),
        "not seen without the paper's number": ("if paper is not None and found.high < paper:", "if paper is None or found.high < paper:"),
        "the paper's ratio not as a logarithm": ("log = math.log(paper) if ratio and paper else paper", "log = paper"),
    },
    "examples/paper/figures.py": {
        "an epoch's last line counts for the next": ("int(np.ceil(line[\"epoch\"])), epochs) - 1", "int(line[\"epoch\"]) + 1, epochs) - 1"),
        "the first test": ("if line[\"kind\"] == \"test\"][-1]", "if line[\"kind\"] == \"test\"][0]"),
        "colours of the mean over rows": ("grey = 3 * (kernels.mean(axis=1) ** 2)", "grey = (kernels.mean(axis=1) ** 2)"),
        "below 25 alone": ("if error <= TARGET", "if error < TARGET"),
    },
    "examples/paper/running.py": {
        "the same folder for other pictures": ("key = json.dumps([self.options, self.data, before])", "key = json.dumps([self.options, before])"),
        "a NaN is the best rate": ("losses.append(loss if loss == loss else float(\"inf\"))", "losses.append(loss)"),
        "the line is not flushed": ("            file.flush()\n            os.fsync(file.fileno())\n", ""),
        "the first value of an option counts": ("found = dict(zip(options[::2], options[1::2], strict=True))", "found = dict(zip(options[-2::-2], options[::-2], strict=True))"),
        "seeds arm by arm": ("        for seed in range(self.seeds):\n            for arm in arms:", "        for arm in arms:\n            for seed in range(self.seeds):"),
    },
    "examples/paper/page.py": {
        "not within its epochs is as many": ("float(len(line[\"training_error\"]) + 1)", "float(len(line[\"training_error\"]))"),
        "seeds that only one side has": ("return {s: ours[s] for s in seeds}, {s: theirs[s] for s in seeds}", "return ours, theirs"),
        "the other figure is forgotten": ("values(plan, row.against, row.other or row.figure, lines)\n    seeds", "values(plan, row.against, row.figure, lines)\n    seeds"),
    },
    "examples/paper/claims.py": {
        "runs without their ten views are done": ("return known is None or (views and \"ten_views\" not in known)", "return known is None"),
        "embedded pictures are asked for": (" - {\"embedded\"}\n            run", "\n            run"),
    },
    "examples/history/vae.py": {
        "the deviation is the variance": ("(log_variance / 2).exp()", "log_variance.exp()"),
    },
    "examples/history/gan.py": {
        "the judge's loss reaches the forger": ("net.judge(forged.detach())", "net.judge(forged)"),
        "distance twice between": ("return 2 * mean(x, y) - mean(x, x) - mean(y, y)", "return mean(x, y) - mean(x, x) - mean(y, y)"),
    },
    "examples/history/autoencoder.py": {
        "noise on what is to be said": ("y = net(net.spoil(x) if net.noise else x)\n    return", "x = net.spoil(x) if net.noise else x\n    y = net(x)\n    return"),
    },
    "examples/history/backprop.py": {
        "siblings of oneself": ("siblings = parents @ parents.T & ~np.eye(12, dtype=bool)", "siblings = parents @ parents.T"),
    },
    "examples/history/bert.py": {
        "a gap filled by a gap": ("[:, : len(vocabulary)].argmax(axis=1)", ".argmax(axis=1)"),
        "gains decay": ("params=[p for p in parameters if p.ndim == 1], weight_decay=0.0", "params=[p for p in parameters if p.ndim == 1], weight_decay=0.01"),
    },
    "examples/history/gpt.py": {
        "a text longer than the places": ("np.array([tokens[-len(net.places.weight) :]])", "np.array([tokens[: len(net.places.weight)]])"),
    },
    "examples/history/transformer.py": {
        "padding is looked at": ("x = self.norms[0](x + self.look(x, mask=mask))", "x = self.norms[0](x + self.look(x))"),
        "the end is cut too late": ("[: [*row[1:], END].index(END)]", "[: [*row[1:], END].index(END) + 1]"),
    },
    "examples/history/resnet.py": {
        "new channels behind the old": ("F.pad(x, (0, 0, 0, 0, self.new // 2, self.new // 2))", "F.pad(x, (0, 0, 0, 0, 0, self.new))"),
        "the preset's decay is forgotten": ("return SGD(groups, lr, momentum=0.9, weight_decay=decay)", "return SGD(groups, lr, momentum=0.9, weight_decay=1e-4)"),
    },
    "examples/history/googlenet.py": {
        "auxiliary classifiers in use": ("return [logits, *early] if self.training else logits", "return [logits, *early] if early else logits"),
        "5x5 sees the 3x3's": ("five = self.five[1](self.five[0](x))", "five = self.five[1](self.three[0](x))"),
    },
    "examples/history/lenet5.py": {
        "weights that are to stay zero": ("F.conv2d(x, self.weight * self.seen, self.bias)", "F.conv2d(x, self.weight, self.bias)"),
    },
    "examples/history/perceptron.py": {
        "zero is right": ("wrong = (agreement <= 0).float()", "wrong = (agreement < 0).float()"),
    },
    "examples/history/vgg.py": {
        "one linear layer without dropout": ("self.fc3(self.dropout(self.fc2(x)))", "self.fc3(self.fc2(x))"),
    },
}
