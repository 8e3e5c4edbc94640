// The processes that train together. RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT come from the environment, as
// torchrun and most job schedulers set them.
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

// This process's rank and the number of ranks. Known before the other processes have started.
struct Rank {
  std::size_t rank, world_size;

  static Rank from_environment() { return {number("RANK"), number("WORLD_SIZE")}; }

  static std::string text(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) {
      throw std::runtime_error(std::string(name) + " is not set: start this program with torchrun, or set it");
    }
    return value;
  }

  static std::size_t number(const char* name) { return std::stoul(text(name)); }
};

// Collectives over gloo.
class ProcessGroup {
 public:
  // Returns when all ranks have joined.
  explicit ProcessGroup(const Rank& me) : me_(me) {
    const auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::minutes(5));
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");  // as in torch.distributed
    options->devices.push_back(interface == nullptr ? c10d::ProcessGroupGloo::createDefaultDevice()
                                                    : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(make_store(), static_cast<int>(me.rank),
                                                         static_cast<int>(me.world_size), options);
  }

  std::size_t rank() const { return me_.rank; }
  std::size_t world_size() const { return me_.world_size; }

  // Returns when all ranks have called it.
  void barrier() { group_->barrier()->wait(); }

  // Replaces the tensor on each rank by the sum over all ranks.
  void all_reduce_sum(torch::Tensor& tensor) {
    std::vector<torch::Tensor> tensors{tensor};
    group_->allreduce(tensors)->wait();
  }

  // The numbers of all ranks, in the order of the ranks.
  std::vector<std::int64_t> all_gather(std::int64_t number) {
    std::vector<torch::Tensor> input{torch::tensor({number}, torch::kLong)};
    std::vector<std::vector<torch::Tensor>> all(1);
    for (std::size_t i = 0; i < me_.world_size; ++i) all[0].push_back(torch::empty({1}, torch::kLong));
    group_->allgather(all, input)->wait();
    std::vector<std::int64_t> numbers;
    for (const auto& tensor : all[0]) numbers.push_back(tensor.item<std::int64_t>());
    return numbers;
  }

 private:
  // The store through which the ranks find each other: rank 0 serves it, or torchrun's agent does.
  c10::intrusive_ptr<c10d::Store> make_store() const {
    const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    const bool agent_serves = agent != nullptr && std::string(agent) == "True";
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(Rank::number("MASTER_PORT"));
    options.isServer = me_.rank == 0 && !agent_serves;
    options.numWorkers = me_.world_size;
    const auto store = c10::make_intrusive<c10d::TCPStore>(Rank::text("MASTER_ADDR"), options);
    if (!agent_serves) return store;
    // The agent's store still has the keys of failed attempts, so each attempt needs a prefix of its own.
    return c10::make_intrusive<c10d::PrefixStore>("attempt " + Rank::text("TORCHELASTIC_RESTART_COUNT"), store);
  }

  Rank me_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};
