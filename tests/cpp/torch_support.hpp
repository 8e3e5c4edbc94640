// Helpers for the tests with LibTorch.
#pragma once

#include <cstddef>
#include <string>

#include <torch/torch.h>

#include <aztorch/torch.hpp>

#include "container.hpp"
#include "fault_server.hpp"

// Set by main: where the files of tests/fixtures are.
inline std::string& fixture_directory() {
  static std::string directory;
  return directory;
}

// Set by main: where the tests leave files for read_state_dict.py.
inline std::string& output_directory() {
  static std::string directory;
  return directory;
}

// Uploads a fixture and returns its URL.
inline std::string uploaded_fixture(const std::string& name) {
  const std::string url = blob_url(name);
  aztorch::upload(fixture_directory() + "/" + name, url);
  return url;
}

// The modules of tests/fixtures/make_fixtures.py.
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

using aztorch::detail::named_tensors;
using aztorch::detail::NamedTensors;

// Sets element k of entry number i to 100 * i + k.
inline void fill(const torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  int index = 0;
  for (auto& entry : named_tensors(module)) {
    entry.second.copy_(100 * index++ + torch::arange(entry.second.numel()).reshape(entry.second.sizes()));
  }
}

// Whether both have the same names and equal tensors.
inline bool same_state(const torch::nn::Module& left, const torch::nn::Module& right) {
  const NamedTensors a = named_tensors(left);
  const NamedTensors b = named_tensors(right);
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].first != b[i].first || !torch::equal(a[i].second, b[i].second)) return false;
  }
  return true;
}

// A model of 24 MB: reading it takes several requests.
inline torch::nn::Linear large_model() { return torch::nn::Linear(3000, 2000); }

inline aztorch::Client client_without_retries() {
  return aztorch::Client(aztorch::ClientOptions().set_anonymous().set_max_retries(0));
}

// Serves the first `count` GETs and refuses the others.
inline Plan refuse_gets_after(int count) {
  return [count](const std::string&, int number) { return number < count ? Action::serve : Action::refuse; };
}
