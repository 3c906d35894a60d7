import torch
from torch import nn, optim
import torch.nn.functional as F

torch.manual_seed(2)
# pictures with a bright horizontal (0) or vertical (1) bar
n = 128
images = 0.1 * torch.rand(n, 1, 12, 12)
targets = torch.randint(0, 2, (n,))
rows = torch.arange(12).view(1, 1, 12, 1)
columns = torch.arange(12).view(1, 1, 1, 12)
where = torch.randint(2, 10, (n,)).view(n, 1, 1, 1)
horizontal = (rows == where) & (columns >= 0)
vertical = (columns == where) & (rows >= 0)
bar = torch.where(targets.view(n, 1, 1, 1) == 0, horizontal, vertical)
images = images + bar.float()
images = torch.clamp(images, min=0.0, max=1.0)
mean, std = images.mean(), images.std()
images = (images - mean) / std


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 8, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(16 * 2 * 2, 32)
        self.fc2 = nn.Linear(32, 2)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(x.size(0), -1)
        x = F.dropout(F.relu(self.fc1(x)), p=0.2, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


net = Net()
optimizer = optim.Adam(net.parameters(), lr=0.01)
losses = []
for epoch in range(6):
    net.train()
    for xb, yb in zip(images.split(32), targets.split(32)):
        output = net(xb)
        loss = F.nll_loss(output, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print("epoch", epoch, "loss", round(sum(losses[-4:]) / 4, 4))

net.eval()
correct = 0
with torch.no_grad():
    for xb, yb in zip(images.split(50), targets.split(50)):
        pred = net(xb).argmax(dim=1, keepdim=True)
        correct += pred.eq(yb.view_as(pred)).sum().item()
print(f"accuracy: {100.0 * correct / n:.1f}%")
assert correct > 0.9 * n

sequential = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding="same"),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(4 * 12 * 12, 2),
)
sequential = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2))
print(sequential(images[:5]).shape)
batch = torch.stack([images[0], images[1], images[2]])
both = torch.cat([batch, images[3:5]], dim=0)
assert both.shape == (5, 1, 12, 12)
print(both.squeeze().permute(1, 2, 0).shape, both.flatten(1).shape, both.reshape(5, -1).T.shape)
