"""Loads a ResNet18 state_dict from a blob into a Python module: demo_read.py URL FILE

libaztorch downloads the blob to FILE. Everything else is plain PyTorch.
"""

import sys

import torch
from torch import nn

import demo_blob


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """Has the same names as torchvision's resnet18."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    url, path = sys.argv[1:]
    demo_blob.download(url, path)
    model = ResNet18()
    for weights_only in (False, True):
        # Strict: an entry that is missing, unexpected or of the wrong shape is an error.
        with open(path, "rb") as f:
            model.load_state_dict(torch.load(f, weights_only=weights_only))
    with torch.no_grad():
        output = model.eval()(torch.ones(1, 3, 64, 64))
    if not torch.isfinite(output).all():
        sys.exit("demo_read.py: the output of the loaded model is not finite")
    print(f"load_state_dict(torch.load(f)) OK, {len(model.state_dict())} tensors, torch {torch.__version__}")


if __name__ == "__main__":
    try:
        main()
    except demo_blob.BlobError as error:
        sys.exit(f"demo_read.py: {error}")
