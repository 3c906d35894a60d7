import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

torch.manual_seed(1)
device = torch.device("cpu")
# three noisy clusters
centers = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
labels = torch.arange(300) % 3
points = centers[labels] + 0.5 * torch.randn(300, 2)
perm = torch.randperm(300)
points, labels = points[perm].to(device), labels[perm].to(device)
x_train, x_test = points[:240], points[240:]
y_train, y_test = labels[:240], labels[240:]
print(x_train.shape, x_train.dtype, y_train.size(0), len(x_test))


class MLP(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)
        self.dropout = nn.Dropout(p=0.1)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = self.dropout(x)
        return self.fc2(x)


model = MLP(2, 32, 3).to(device)
print(model)
print("parameters:", sum(p.numel() for p in model.parameters() if p.requires_grad))
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

for epoch in range(10):
    model.train()
    running_loss = 0.0
    correct = 0
    for i in range(0, len(x_train), 32):
        xb, yb = x_train[i : i + 32], y_train[i : i + 32]
        optimizer.zero_grad()
        out = model(xb)
        loss = criterion(out, yb)
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * xb.size(0)
        _, predicted = torch.max(out, 1)
        correct += (predicted == yb).sum().item()
    print(f"epoch {epoch + 1}: loss {running_loss / 240:.3f}, accuracy {correct / 240:.2%}")

model.eval()
with torch.no_grad():
    out = model(x_test)
    pred = out.argmax(dim=1)
    accuracy = (pred == y_test).float().mean()
    probabilities = F.softmax(out, dim=1)
    confidence, winner = probabilities.max(dim=1)
    wrong = (pred != y_test).nonzero()
print("test accuracy: {:.3f}".format(accuracy))
print("mean confidence", confidence.mean().item(), bool((winner == pred).all()))
assert accuracy > 0.9
counts = [(y_test == c).sum().item() for c in range(3)]
print("counts", counts)
by_class = torch.zeros(3)
by_class[0] = 1.0
confusion = torch.zeros(3, 3, dtype=torch.long)
for t, p in zip(y_test.tolist(), pred.tolist()):
    confusion[t, p] += 1
adam = optim.Adam(model.parameters(), lr=1e-3)
torch.save(model.state_dict(), "mlp.pt")
again = MLP(2, 32, 3)
again.load_state_dict(torch.load("mlp.pt"))
again.eval()
assert torch.allclose(again(x_test), model(x_test))
