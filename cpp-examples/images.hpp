// Images that a small net can learn: stripes in eight directions, under noise. A sample is a byte that tells the
// direction, then the pixels as a raw tensor, so that no decoder is needed; decode() would be the place for one.
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

// The file name sorts as the number does.
inline std::string name(std::size_t number) {
  char text[32];
  std::snprintf(text, sizeof text, "%06zu.img", number);
  return text;
}

// The same bytes for the same number.
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

// Of a sample's bytes, a tensor of uint8.
inline torch::data::Example<> decode(const torch::Tensor& bytes) {
  const auto pixels = bytes.slice(0, 1).reshape({kChannels, kSide, kSide}).to(torch::kFloat).div_(127.5).sub_(1);
  return {pixels, bytes[0].to(torch::kLong)};
}

// An example that knows its name, and its place among the others.
struct Image {
  torch::data::Example<> example;
  std::string name;
  std::uint64_t position = 0;
};

struct Images {
  torch::Tensor data, target;
  std::vector<std::string> names;
  std::vector<std::uint64_t> positions;
};

// torch's Stack for them.
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

// What one batch added up to.
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

  // For collectives and checkpoints.
  torch::Tensor to_tensor() const {
    return torch::tensor({loss, double(right), double(samples)}, torch::kDouble);
  }

  static Result from_tensor(const torch::Tensor& numbers) {
    return {numbers[0].item<double>(), numbers[1].item<std::int64_t>(), numbers[2].item<std::int64_t>()};
  }
};

// Forward, and backward of the sum of the losses, divided by `divisor`.
inline Result backward(Net& net, const torch::Tensor& data, const torch::Tensor& target, std::size_t divisor) {
  namespace F = torch::nn::functional;
  const auto output = net(data);
  const auto loss = F::cross_entropy(output, target, F::CrossEntropyFuncOptions().reduction(torch::kSum));
  (loss / double(divisor)).backward();
  return {loss.item<double>(), output.argmax(1).eq(target).sum().item<std::int64_t>(), target.size(0)};
}

inline Result train_step(Net& net, torch::optim::Optimizer& optimizer, const torch::Tensor& data,
                         const torch::Tensor& target) {
  optimizer.zero_grad();
  const auto result = backward(net, data, target, static_cast<std::size_t>(target.size(0)));
  optimizer.step();
  return result;
}

// One line; the loss a second time with all of its bits.
inline void print_epoch(std::size_t epoch, const Result& result) {
  const double loss = result.loss / double(result.samples);
  std::printf("epoch %zu  %lld samples  loss %.4f  %.1f %% right  (%a)\n", epoch,
              static_cast<long long>(result.samples), loss, 100 * double(result.right) / double(result.samples), loss);
  std::fflush(stdout);
}

}  // namespace images
