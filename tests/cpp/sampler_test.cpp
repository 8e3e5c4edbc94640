// PrefetchSampler around torch's samplers, and ElasticSampler: indices, prefetching, saving and restoring. Part of
// torch_dataset_test.
#include <aztorch/torch/elastic_sampler.hpp>  // first, to check that it compiles alone
#include <aztorch/torch/prefetch_sampler.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include <aztorch/torch.hpp>

#include "blobs.hpp"
#include "check.hpp"
#include "container.hpp"
#include "fault_server.hpp"
#include "tensors.hpp"

namespace data = torch::data;
namespace samplers = torch::data::samplers;
using aztorch::BlobDataset;
using aztorch::ElasticSampler;
using aztorch::Lookahead;
using aztorch::PrefetchSampler;
using data::DataLoaderOptions;
using Indices = std::vector<std::size_t>;

namespace {

constexpr std::size_t kSize = 60;

BlobDataset<> dataset_of(const std::string& prefix) {
  return BlobDataset<>::from_container_url(container_url(), prefix);
}

// A dataset of 60 blobs, shared by the tests that need no particular blobs.
const BlobDataset<>& sixty() {
  static const BlobDataset<> dataset = [] {
    put_all("sampled/", kSize);
    return dataset_of("sampled/");
  }();
  return dataset;
}

void append(Indices& to, const Indices& from) { to.insert(to.end(), from.begin(), from.end()); }

template <typename Sampler>
Indices drain(Sampler& sampler, std::size_t batch_size) {
  Indices all;
  while (const auto batch = sampler.next(batch_size)) append(all, *batch);
  return all;
}

// Runs an epoch through a loader, up to `batches` batches of 7 (0: all), and returns the indices of their samples.
template <typename Sampler>
Indices train(Sampler& sampler, std::size_t batches = 0, std::size_t workers = 4) {
  Indices indices;
  auto loader = data::make_data_loader(sixty(), sampler, DataLoaderOptions(7).workers(workers));
  for (auto& batch : *loader) {
    for (const auto& example : batch) indices.push_back(static_cast<std::size_t>(example.position));
    sampler.mark_consumed(batch);
    if (--batches == 0) break;
  }
  return indices;
}

// Saves one sampler and loads the other from that.
template <typename Sampler>
void restore(const Sampler& from, Sampler& to) {
  torch::serialize::OutputArchive out;
  from.save(out);
  std::stringstream bytes;
  out.save_to(bytes);
  torch::serialize::InputArchive in;
  in.load_from(bytes);
  to.load(in);
}

// Expects that an epoch which is interrupted and restored twice gives the same indices in the same order.
template <typename Inner>
void check_resume(const Inner& inner) {
  torch::manual_seed(1);
  PrefetchSampler whole(sixty(), inner);
  whole.set_epoch(2);
  const Indices expected = train(whole);
  for (const std::size_t batches : {std::size_t{1}, std::size_t{3}, expected.size() / 7 + 1}) {
    torch::manual_seed(1);
    PrefetchSampler sampler(sixty(), inner);
    sampler.set_epoch(2);
    Indices indices = train(sampler, batches);
    EXPECT_EQUAL(indices.size(), std::min(batches * 7, expected.size()));

    PrefetchSampler resumed(sixty(), inner);
    restore(sampler, resumed);
    EXPECT_EQUAL(resumed.epoch(), 2U);
    EXPECT_EQUAL(resumed.position(), sampler.position());
    if (batches == 3) resumed.set_epoch(2);  // as a loop over epochs does
    append(indices, train(resumed, 1));
    PrefetchSampler again(sixty(), inner);
    restore(resumed, again);
    EXPECT_EQUAL(again.position(), std::min((batches + 1) * 7, expected.size()));
    append(indices, train(again));
    EXPECT(indices == expected);
    EXPECT_EQUAL(train(again).size(), expected.size());
    EXPECT_EQUAL(again.epoch(), 3U);
  }
}

}  // namespace

TEST(indices_pass_through_as_the_inner_sampler_gives_them) {
  for (const std::size_t batch_size : {std::size_t{1}, std::size_t{7}, std::size_t{200}}) {
    PrefetchSampler sequential(sixty(), samplers::SequentialSampler(kSize), Lookahead{16, 1000});
    EXPECT(drain(sequential, batch_size) == iota(kSize));
    EXPECT(!sequential.next(batch_size));
    for (std::size_t epoch = 0; epoch < 3; ++epoch) {
      samplers::DistributedRandomSampler plain(kSize, 3, 1);
      PrefetchSampler distributed(sixty(), plain);
      distributed.set_epoch(epoch);
      distributed.reset();
      plain.set_epoch(epoch);
      plain.reset();
      EXPECT(drain(distributed, batch_size) == drain(plain, batch_size));
    }
  }
  PrefetchSampler random(sixty());
  const Indices first = drain(random, 7);
  random.reset();
  const Indices second = drain(random, 7);
  EXPECT(sorted(first) == iota(kSize) && sorted(second) == iota(kSize) && first != second);
}

TEST(each_reset_but_the_first_starts_an_epoch) {
  PrefetchSampler sampler(sixty(), samplers::DistributedRandomSampler(kSize));
  std::vector<Indices> epochs;
  for (std::size_t epoch = 0; epoch < 3; ++epoch) {
    const PrefetchSampler<samplers::DistributedRandomSampler> copy = sampler;
    sampler.reset();
    EXPECT_EQUAL(copy.epoch(), epoch);
    epochs.push_back(drain(sampler, 7));
  }
  EXPECT(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
  sampler.set_epoch(1);
  EXPECT_EQUAL(sampler.epoch(), 1U);
  sampler.reset();
  EXPECT(drain(sampler, 7) == epochs[1]);
  sampler.reset();
  EXPECT(drain(sampler, 7) == epochs[2]);
}

TEST(every_sampler_resumes_after_the_consumed_batches) {
  check_resume(samplers::SequentialSampler(kSize));
  check_resume(samplers::RandomSampler(kSize));
  check_resume(samplers::DistributedSequentialSampler(kSize, 2, 1));
  check_resume(samplers::DistributedRandomSampler(kSize, 2, 1));
  check_resume(ElasticSampler(kSize, 1, 0, 9));
}

TEST(a_restored_position_is_valid_for_its_epoch_and_dataset_only) {
  PrefetchSampler sampler(sixty(), samplers::SequentialSampler(kSize));
  train(sampler, 3, 0);
  PrefetchSampler resumed(sixty(), samplers::SequentialSampler(kSize));
  restore(sampler, resumed);
  resumed.set_epoch(4);
  EXPECT(train(resumed) == iota(kSize));

  put_all("sampled-other/", 3);
  PrefetchSampler other(dataset_of("sampled-other/"), samplers::SequentialSampler(3));
  EXPECT_THROWS(aztorch::Error, restore(sampler, other), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
  EXPECT_EQUAL(train(other, 1, 0).size(), 3U);

  PrefetchSampler seven(sixty(), ElasticSampler(kSize, 1, 0, 7));
  PrefetchSampler eight(sixty(), ElasticSampler(kSize, 1, 0, 8));
  EXPECT_THROWS(aztorch::Error, restore(seven, eight), EXPECT_CONTAINS(thrown.what(), "seed 7"));
}

TEST(marking_a_batch_marks_all_before_it) {
  PrefetchSampler sampler(sixty(), samplers::SequentialSampler(kSize));
  sampler.reset();
  for (int i = 0; i < 4; ++i) sampler.next(7);
  EXPECT_EQUAL(sampler.position(), 0U);
  const auto batch = [](std::uint64_t first) {
    aztorch::BlobExample example;
    example.position = first;
    return std::vector<aztorch::BlobExample>{example};
  };
  sampler.mark_consumed(batch(7));  // and the one before it
  EXPECT_EQUAL(sampler.position(), 14U);
  EXPECT_THROWS(aztorch::Error, sampler.mark_consumed(batch(7)),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
  sampler.mark_consumed(data::Example<>());  // has no position, so it is the next batch
  EXPECT_EQUAL(sampler.position(), 21U);
  sampler.mark_consumed();
  EXPECT_EQUAL(sampler.position(), 28U);
  EXPECT_THROWS(aztorch::Error, sampler.mark_consumed(), EXPECT_CONTAINS(thrown.what(), "no batch"));
  sampler.mark_consumed(std::vector<aztorch::BlobExample>());
  EXPECT_EQUAL(sampler.position(), 28U);
}

TEST(an_index_past_the_end_is_an_error) {
  PrefetchSampler sampler(sixty(), samplers::SequentialSampler(kSize + 1));
  EXPECT_THROWS(aztorch::Error, drain(sampler, 7), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
}

TEST(an_elastic_sampler_gives_each_sample_to_one_rank) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{8}, std::size_t{100}, std::size_t{101}}) {
    for (std::size_t world = 1; world <= 5; ++world) {
      for (const std::size_t batch_size : {std::size_t{1}, std::size_t{4}, std::size_t{33}, std::size_t{1000}}) {
        Indices all;
        std::size_t steps = 0;
        for (std::size_t rank = 0; rank < world; ++rank) {
          ElasticSampler sampler(size, world, rank, 3);
          sampler.set_epoch(1);
          std::size_t position = 0, step = 0;
          while (const std::size_t samples = sampler.step(position, batch_size)) {
            const auto batch = sampler.next(batch_size);
            EXPECT(batch || samples < world);
            if (batch) append(all, *batch);
            position += samples;
            ++step;
            EXPECT_EQUAL(sampler.position(), position);
          }
          EXPECT(!sampler.next(batch_size));
          if (rank == 0) steps = step;
          EXPECT_EQUAL(step, steps);
        }
        EXPECT(sorted(all) == iota(size));
      }
    }
  }
  EXPECT_THROWS(aztorch::Error, ElasticSampler(10, 3, 3),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(the_order_of_an_elastic_sampler_depends_on_seed_and_epoch) {
  const auto order = [](std::uint64_t seed, std::size_t epoch, bool shuffle = true) {
    ElasticSampler sampler(100, 1, 0, seed, shuffle);
    sampler.set_epoch(epoch);
    return drain(sampler, 10);
  };
  EXPECT(order(1, 0) == order(1, 0));
  EXPECT(order(1, 0) != order(1, 1) && order(1, 0) != order(2, 0) && order(1, 1) != order(2, 0));
  EXPECT(order(1, 5, false) == iota(100));
}

TEST(an_elastic_sampler_resumes_on_another_number_of_ranks) {
  // 100 samples do not divide into full steps for any of these numbers of ranks.
  constexpr std::size_t kBatch = 7;
  put_all("elastic/", 100);
  const auto dataset = dataset_of("elastic/");
  for (const auto& [before, after] : {std::pair<std::size_t, std::size_t>{3, 2}, {2, 3}, {1, 4}}) {
    Indices seen;
    torch::serialize::OutputArchive saved;
    for (std::size_t rank = before; rank-- > 0;) {
      PrefetchSampler sampler(dataset, ElasticSampler(100, before, rank, 5));
      auto loader = data::make_data_loader(dataset, sampler, DataLoaderOptions(kBatch).workers(2));
      std::size_t steps = 3;
      for (auto& batch : *loader) {
        for (const auto& example : batch) seen.push_back(static_cast<std::size_t>(example.position));
        sampler.mark_consumed(batch);
        if (--steps == 0) break;
      }
      EXPECT_EQUAL(sampler.position(), 3 * before * kBatch);
      if (rank == 0) sampler.save(saved);
    }
    std::stringstream bytes;
    saved.save_to(bytes);
    for (std::size_t rank = 0; rank < after; ++rank) {
      PrefetchSampler sampler(dataset, ElasticSampler(100, after, rank, 5));
      torch::serialize::InputArchive in;
      bytes.seekg(0);
      in.load_from(bytes);
      sampler.load(in);
      auto loader = data::make_data_loader(dataset, sampler, DataLoaderOptions(kBatch).workers(2));
      const ElasticSampler plan(100, after, rank, 5);
      auto batch = loader->begin();
      for (std::size_t position = sampler.position(); position < 100; position += plan.step(position, kBatch)) {
        if (batch == loader->end()) {
          EXPECT(rank > 0 && plan.step(position, kBatch) < after);
          continue;
        }
        for (const auto& example : *batch) seen.push_back(static_cast<std::size_t>(example.position));
        sampler.mark_consumed(*batch);
        ++batch;
      }
      EXPECT(batch == loader->end());
    }
    EXPECT(sorted(seen) == iota(100));
  }
}

TEST(each_blob_is_fetched_once) {
  put_all("once/", 300);
  const auto dataset = dataset_of("once/");
  PrefetchSampler sampler(dataset);
  auto loader = data::make_data_loader(dataset, sampler, DataLoaderOptions(16).workers(4));
  for (std::size_t epoch = 1; epoch <= 3; ++epoch) {
    std::size_t count = 0;
    for (auto& batch : *loader) count += batch.size();
    EXPECT_EQUAL(count, 300U);
    EXPECT_EQUAL(count_requests("GET", "/once/"), 300 * epoch);
  }
}

namespace {

// Reads blobs from a slow server in a loop that takes a batch every kPace. Returns the fraction of the batches that the
// server had sent when the loop requested them, without the first one, which cannot be prefetched.
template <typename MakeSampler>
double fraction_of_ready_batches(std::size_t workers, MakeSampler make_sampler) {
  constexpr std::size_t kBlobs = 1024, kBatch = 32;
  constexpr auto kLatency = std::chrono::milliseconds(40), kPace = std::chrono::milliseconds(60);
  std::atomic<std::size_t> sent{0};
  FaultServer server(std::string(1000, 'x'), [&](const std::string&, int) {
    std::this_thread::sleep_for(kLatency);
    ++sent;
    return Action::serve;
  });
  std::vector<std::string> urls;
  for (std::size_t i = 0; i < kBlobs; ++i) urls.push_back(server.url() + std::to_string(i));
  const auto dataset = BlobDataset<>::from_blob_urls(urls);
  auto loader = data::make_data_loader(dataset, make_sampler(dataset), DataLoaderOptions(kBatch).workers(workers));
  std::size_t taken = 0, ready = 0, batches = 0;
  for (auto& batch : *loader) {
    taken += batch.size();
    std::this_thread::sleep_for(kPace);
    if (taken == kBlobs) continue;
    ++batches;
    if (sent >= taken + kBatch) ++ready;
  }
  EXPECT_EQUAL(taken, kBlobs);
  EXPECT_EQUAL(sent.load(), kBlobs);
  return static_cast<double>(ready) / static_cast<double>(batches);
}

}  // namespace

TEST(a_shuffled_epoch_does_not_wait_for_storage) {
  const auto prefetched = [](const BlobDataset<>& dataset) { return PrefetchSampler(dataset); };
  const auto plain = [](const BlobDataset<>& dataset) {
    return samplers::RandomSampler(static_cast<std::int64_t>(dataset.blobs().size()));
  };
  EXPECT(fraction_of_ready_batches(4, prefetched) > 0.9);
  // Without workers only the sampler fetches ahead.
  EXPECT(fraction_of_ready_batches(0, prefetched) > 0.9);
  EXPECT(fraction_of_ready_batches(0, plain) < 0.1);
}

TEST(a_reset_withdraws_the_prefetch_hints) {
  std::atomic<int> gets{0};
  FaultServer server("x", [&gets](const std::string&, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++gets;
    return Action::serve;
  });
  std::vector<std::string> urls;
  for (int i = 0; i < 400; ++i) urls.push_back(server.url() + std::to_string(i));
  const auto dataset = BlobDataset<>::from_blob_urls(urls);
  PrefetchSampler sampler(dataset, samplers::SequentialSampler(400));
  sampler.next(10);
  sampler.set_epoch(0);
  sampler.reset();
  // Requests in flight continue; the rest is not fetched.
  int before = -1;
  while (gets != before) {
    before = gets;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT(gets.load() < 200);
}
