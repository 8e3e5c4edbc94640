// ResNet-18 in LibTorch, with torchvision's names: its state_dict has the same 122 entries as torchvision's.
#pragma once

#include <cstdint>

#include <torch/torch.h>

namespace resnet {

inline torch::nn::Conv2d conv(std::int64_t from, std::int64_t to, std::int64_t kernel, std::int64_t stride) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(from, to, kernel).stride(stride).padding(kernel / 2).bias(false));
}

struct BasicBlockImpl : torch::nn::Module {
  BasicBlockImpl(std::int64_t from, std::int64_t to, std::int64_t stride) {
    conv1 = register_module("conv1", conv(from, to, 3, stride));
    bn1 = register_module("bn1", torch::nn::BatchNorm2d(to));
    conv2 = register_module("conv2", conv(to, to, 3, 1));
    bn2 = register_module("bn2", torch::nn::BatchNorm2d(to));
    if (stride != 1 || from != to) {
      downsample = register_module(
          "downsample", torch::nn::Sequential(conv(from, to, 1, stride), torch::nn::BatchNorm2d(to)));
    }
  }

  torch::Tensor forward(const torch::Tensor& input) {
    const torch::Tensor shortcut = downsample ? downsample->forward(input) : input;
    const torch::Tensor inner = torch::relu(bn1(conv1(input)));
    return torch::relu(bn2(conv2(inner)) + shortcut);
  }

  torch::nn::Conv2d conv1{nullptr}, conv2{nullptr};
  torch::nn::BatchNorm2d bn1{nullptr}, bn2{nullptr};
  torch::nn::Sequential downsample{nullptr};
};
TORCH_MODULE(BasicBlock);

inline torch::nn::Sequential layer(std::int64_t from, std::int64_t to, std::int64_t stride) {
  return torch::nn::Sequential(BasicBlock(from, to, stride), BasicBlock(to, to, 1));
}

struct ResNet18Impl : torch::nn::Module {
  ResNet18Impl() {
    conv1 = register_module("conv1", conv(3, 64, 7, 2));
    bn1 = register_module("bn1", torch::nn::BatchNorm2d(64));
    layer1 = register_module("layer1", layer(64, 64, 1));
    layer2 = register_module("layer2", layer(64, 128, 2));
    layer3 = register_module("layer3", layer(128, 256, 2));
    layer4 = register_module("layer4", layer(256, 512, 2));
    fc = register_module("fc", torch::nn::Linear(512, 1000));
  }

  torch::Tensor forward(torch::Tensor x) {
    x = torch::max_pool2d(torch::relu(bn1(conv1(x))), 3, 2, 1);
    x = layer4->forward(layer3->forward(layer2->forward(layer1->forward(x))));
    return fc(torch::adaptive_avg_pool2d(x, 1).flatten(1));
  }

  torch::nn::Conv2d conv1{nullptr};
  torch::nn::BatchNorm2d bn1{nullptr};
  torch::nn::Sequential layer1{nullptr}, layer2{nullptr}, layer3{nullptr}, layer4{nullptr};
  torch::nn::Linear fc{nullptr};
};
TORCH_MODULE(ResNet18);

}  // namespace resnet
