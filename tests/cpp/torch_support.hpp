// What the tests with LibTorch share.
#pragma once

#include <cstddef>
#include <string>

#include <torch/torch.h>

#include <aztorch/torch.hpp>

#include "container.hpp"
#include "fault_server.hpp"

inline std::string& fixture_directory() {
  static std::string directory;
  return directory;
}

inline std::string& output_directory() {
  static std::string directory;
  return directory;
}

inline std::string uploaded_fixture(const std::string& name) {
  const std::string url = blob_url(name);
  aztorch::upload(fixture_directory() + "/" + name, url);
  return url;
}

// As in tests/fixtures/make_fixtures.py.
struct TiedImpl : torch::nn::Module {
  explicit TiedImpl(const torch::Tensor& shared) { weight = register_parameter("weight", shared); }
  torch::Tensor weight;
};
TORCH_MODULE(Tied);

struct NetImpl : torch::nn::Module {
  NetImpl() {
    conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 2, 3)));
    bn = register_module("bn", torch::nn::BatchNorm2d(2));
    torch::nn::Linear first(8, 3);
    block = register_module(
        "block", torch::nn::Sequential(first, torch::nn::ReLU(),
                                       torch::nn::Linear(torch::nn::LinearOptions(3, 2).bias(false))));
    tied = register_module("tied", Tied(first->weight));
  }
  torch::nn::Conv2d conv = nullptr;
  torch::nn::BatchNorm2d bn = nullptr;
  torch::nn::Sequential block = nullptr;
  Tied tied = nullptr;
};
TORCH_MODULE(Net);

using aztorch::detail::NamedTensors;
using aztorch::detail::state_of;

// Element k of entry number i is 100 * i + k.
inline void fill(const torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  int index = 0;
  for (auto& entry : state_of(module)) {
    entry.second.copy_(100 * index++ + torch::arange(entry.second.numel()).reshape(entry.second.sizes()));
  }
}

inline bool same_state(const torch::nn::Module& left, const torch::nn::Module& right) {
  const NamedTensors a = state_of(left);
  const NamedTensors b = state_of(right);
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].first != b[i].first || !torch::equal(a[i].second, b[i].second)) return false;
  }
  return true;
}

// A model of 24 MB, more than one request for a reader.
inline torch::nn::Linear large_model() { return torch::nn::Linear(3000, 2000); }

inline aztorch::Client impatient_client() {
  return aztorch::Client(aztorch::ClientOptions().set_anonymous().set_max_retries(0));
}

// The first `count` GETs are served, the others refused.
inline Plan refuse_gets_after(int count) {
  return [count](const std::string&, int number) { return number < count ? Answer::serve : Answer::refuse; };
}
