// Images that a small network can learn: stripes in eight directions, with noise. A sample is a byte with the
// direction, then the pixels as raw bytes. decode() is where a program with real images would call a decoder.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

namespace images {

constexpr std::int64_t kClasses = 8;
constexpr std::int64_t kChannels = 3;
constexpr std::int64_t kSide = 16;

// The name of image number `number`. The names sort in the order of the numbers.
inline std::string name(std::size_t number) {
  char text[32];
  std::snprintf(text, sizeof text, "%06zu.img", number);
  return text;
}

// The bytes of image number `number`, always the same ones.
inline std::vector<std::uint8_t> make(std::size_t number) {
  std::mt19937 random(static_cast<std::mt19937::result_type>(number));
  const auto uniform = [&random] { return double(random()) / double(std::mt19937::max()); };
  const double pi = 3.14159265358979;
  const auto label = number % kClasses;
  const double angle = pi * double(label) / kClasses;
  std::vector<std::uint8_t> bytes{static_cast<std::uint8_t>(label)};
  for (std::int64_t channel = 0; channel < kChannels; ++channel) {
    const double phase = 2 * pi * uniform();
    for (std::int64_t y = 0; y < kSide; ++y) {
      for (std::int64_t x = 0; x < kSide; ++x) {
        const double wave = std::sin(double(x) * std::cos(angle) + double(y) * std::sin(angle) + phase);
        bytes.push_back(static_cast<std::uint8_t>(128 + 80 * wave + 40 * (uniform() - 0.5)));
      }
    }
  }
  return bytes;
}

// Makes an example from a sample's bytes, a uint8 tensor.
inline torch::data::Example<> decode(const torch::Tensor& bytes) {
  const auto pixels = bytes.slice(0, 1).reshape({kChannels, kSide, kSide}).to(torch::kFloat).div_(127.5).sub_(1);
  return {pixels, bytes[0].to(torch::kLong)};
}

// An example with the name of its blob and the position of its sample.
struct Image {
  torch::data::Example<> example;
  std::string name;
  std::uint64_t position = 0;
};

// A batch of Images.
struct Images {
  torch::Tensor data, target;
  std::vector<std::string> names;
  std::vector<std::uint64_t> positions;
};

// Collates Images, as torch's Stack does with Examples.
struct StackImages : torch::data::transforms::BatchTransform<std::vector<Image>, Images> {
  Images apply_batch(std::vector<Image> images) override {
    Images batch;
    std::vector<torch::data::Example<>> examples;
    for (auto& image : images) {
      examples.push_back(std::move(image.example));
      batch.names.push_back(std::move(image.name));
      batch.positions.push_back(image.position);
    }
    if (examples.empty()) return batch;
    auto stacked = torch::data::transforms::Stack<>().apply_batch(std::move(examples));
    batch.data = std::move(stacked.data);
    batch.target = std::move(stacked.target);
    return batch;
  }
};

class NetImpl : public torch::nn::Module {
 public:
  NetImpl() { register_module("layers", layers_); }

  torch::Tensor forward(const torch::Tensor& images) { return layers_->forward(images); }

 private:
  using Conv2d = torch::nn::Conv2d;
  torch::nn::Sequential layers_{Conv2d(torch::nn::Conv2dOptions(kChannels, 8, 3).padding(1)),
                                torch::nn::ReLU(),
                                torch::nn::MaxPool2d(2),
                                Conv2d(torch::nn::Conv2dOptions(8, 16, 3).padding(1)),
                                torch::nn::ReLU(),
                                torch::nn::MaxPool2d(2),
                                torch::nn::Flatten(),
                                torch::nn::Linear(16 * (kSide / 4) * (kSide / 4), kClasses)};
};
TORCH_MODULE(Net);

inline torch::optim::Adam make_optimizer(const Net& net) {
  return torch::optim::Adam(net->parameters(), torch::optim::AdamOptions(1e-2));
}

// The results of one or more batches, added up.
struct Result {
  double loss = 0;  // the sum over its samples
  std::int64_t right = 0;
  std::int64_t samples = 0;

  Result& operator+=(const Result& other) {
    loss += other.loss;
    right += other.right;
    samples += other.samples;
    return *this;
  }

  // As a tensor of three doubles, for collectives and checkpoints.
  torch::Tensor to_tensor() const {
    return torch::tensor({loss, double(right), double(samples)}, torch::kDouble);
  }

  static Result from_tensor(const torch::Tensor& numbers) {
    return {numbers[0].item<double>(), numbers[1].item<std::int64_t>(), numbers[2].item<std::int64_t>()};
  }
};

// Computes the sum of the losses of a batch, and adds the gradients of that sum, divided by `divisor`, to the
// network's.
inline Result backward(Net& net, const torch::Tensor& data, const torch::Tensor& target, std::size_t divisor) {
  namespace F = torch::nn::functional;
  const auto output = net(data);
  const auto loss = F::cross_entropy(output, target, F::CrossEntropyFuncOptions().reduction(torch::kSum));
  (loss / double(divisor)).backward();
  return {loss.item<double>(), output.argmax(1).eq(target).sum().item<std::int64_t>(), target.size(0)};
}

// One step of the optimizer, with the mean loss of a batch.
inline Result train_step(Net& net, torch::optim::Optimizer& optimizer, const torch::Tensor& data,
                         const torch::Tensor& target) {
  optimizer.zero_grad();
  const auto result = backward(net, data, target, static_cast<std::size_t>(target.size(0)));
  optimizer.step();
  return result;
}

// Prints one line about an epoch. It has the loss twice: rounded, and in hexadecimal with all bits.
inline void print_epoch(std::size_t epoch, const Result& result) {
  const double loss = result.loss / double(result.samples);
  std::printf("epoch %zu  %lld samples  loss %.4f  %.1f %% right  (%a)\n", epoch,
              static_cast<long long>(result.samples), loss, 100 * double(result.right) / double(result.samples), loss);
  std::fflush(stdout);
}

}  // namespace images
