// The processes that train together: who is who from RANK and WORLD_SIZE, where they meet from MASTER_ADDR and
// MASTER_PORT, as torchrun and most job schedulers set them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

// Known before the others are there.
struct Rank {
  std::size_t rank, world_size;

  static Rank from_environment() { return {number("RANK"), number("WORLD_SIZE")}; }

  static std::string text(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set: start this with torchrun, or set it");
    return value;
  }

  static std::size_t number(const char* name) { return std::stoul(text(name)); }
};

class ProcessGroup {
 public:
  // Returns when all of them are there.
  explicit ProcessGroup(const Rank& me) : me_(me) {
    const auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::minutes(5));
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");  // as torch.distributed has it
    options->devices.push_back(interface == nullptr ? c10d::ProcessGroupGloo::createDefaultDevice()
                                                    : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(meet(), static_cast<int>(me.rank),
                                                         static_cast<int>(me.world_size), options);
  }

  std::size_t rank() const { return me_.rank; }
  std::size_t world_size() const { return me_.world_size; }

  // Returns when all ranks have called it.
  void barrier() { group_->barrier()->wait(); }

  // The sum over all ranks, on each of them.
  void all_reduce_sum(torch::Tensor& tensor) {
    std::vector<torch::Tensor> tensors{tensor};
    group_->allreduce(tensors)->wait();
  }

  // Everyone's, in the order of the ranks.
  std::vector<std::int64_t> all_gather(std::int64_t number) {
    std::vector<torch::Tensor> mine{torch::tensor({number}, torch::kLong)};
    std::vector<std::vector<torch::Tensor>> all(1);
    for (std::size_t i = 0; i < me_.world_size; ++i) all[0].push_back(torch::empty({1}, torch::kLong));
    group_->allgather(all, mine)->wait();
    std::vector<std::int64_t> numbers;
    for (const auto& tensor : all[0]) numbers.push_back(tensor.item<std::int64_t>());
    return numbers;
  }

 private:
  // Where the ranks find one another: a store that rank 0 serves, or torchrun's own.
  c10::intrusive_ptr<c10d::Store> meet() const {
    const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    const bool torchruns = agent != nullptr && std::string(agent) == "True";
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(Rank::number("MASTER_PORT"));
    options.isServer = me_.rank == 0 && !torchruns;
    options.numWorkers = me_.world_size;
    const auto store = c10::make_intrusive<c10d::TCPStore>(Rank::text("MASTER_ADDR"), options);
    if (!torchruns) return store;
    // Its store outlives an attempt that failed, with what the ranks wrote there.
    return c10::make_intrusive<c10d::PrefixStore>("attempt " + Rank::text("TORCHELASTIC_RESTART_COUNT"), store);
  }

  Rank me_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};
