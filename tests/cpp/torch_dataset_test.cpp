// BlobDataset and IterableBlobDataset through torch's DataLoader.
#include <aztorch/torch/iterable_blob_dataset.hpp>  // first, to check that it compiles alone

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include <aztorch/torch.hpp>

#include "blobs.hpp"
#include "check.hpp"
#include "container.hpp"
#include "tensors.hpp"

namespace data = torch::data;
namespace samplers = torch::data::samplers;
using aztorch::Blob;
using aztorch::BlobDataset;
using aztorch::BlobExample;
using aztorch::IterableBlobDataset;
using aztorch::IterableOptions;
using aztorch::Sample;
using data::DataLoaderOptions;

static_assert(std::is_copy_constructible_v<BlobDataset<>> && std::is_copy_constructible_v<IterableBlobDataset<>>);
static_assert(!BlobDataset<>::is_stateful && IterableBlobDataset<>::is_stateful);

namespace {

data::Example<> labelled(Sample&& sample) {
  const std::int64_t label = std::stoll(sample.blob_name().substr(sample.blob_name().size() - 5));
  return {aztorch::to_tensor(std::move(sample), {2, 2}, torch::kFloat), torch::tensor(label)};
}

// The number at the end of a blob's name.
std::size_t number_of(const BlobExample& example) {
  return std::stoul(example.blob_name.substr(example.blob_name.size() - 5));
}

// Runs an epoch, and returns the numbers at the ends of the blobs' names.
template <typename Loader>
std::vector<std::size_t> numbers_of_epoch(Loader& loader) {
  std::vector<std::size_t> numbers;
  for (auto& batch : loader) {
    for (const BlobExample& example : batch) {
      numbers.push_back(number_of(example));
      EXPECT_EQUAL(text(example.data), "blob " + std::to_string(numbers.back()));
    }
  }
  return numbers;
}

// Runs an epoch with missing blobs. Returns the messages of the errors, thrown by workers or by the loop; appends the
// names of the other blobs to `names`.
template <typename Loader>
std::vector<std::string> errors_of_epoch(Loader& loader, std::vector<std::string>& names) {
  std::vector<std::string> errors;
  const auto add = [&errors](const aztorch::Error& error) {
    EXPECT_EQUAL(error.status(), AZT_STATUS_NOT_FOUND);
    EXPECT_EQUAL(error.service_code(), "BlobNotFound");
    errors.emplace_back(error.what());
  };
  auto batch = loader.begin();
  for (bool first = true;; first = false) {
    try {
      if (!first) ++batch;
      if (batch == loader.end()) return errors;
      for (const auto& example : *batch) names.push_back(example.blob_name);
    } catch (const data::WorkerException& exception) {
      EXPECT_CONTAINS(exception.what(), "BlobNotFound");
      EXPECT_THROWS(aztorch::Error, std::rethrow_exception(exception.original_exception), add(thrown));
    } catch (const aztorch::Error& error) {
      add(error);
    }
    if (errors.size() > 10) return errors;
  }
}

}  // namespace

TEST(examples_are_stacked_into_batches) {
  put_all("stack/", 10, floats);
  const auto check_batches = [](auto loader, std::vector<std::int64_t> sizes) {
    std::vector<std::int64_t> seen;
    for (auto& batch : *loader) {
      seen.push_back(batch.data.size(0));
      EXPECT(batch.data.sizes() == torch::IntArrayRef({seen.back(), 2, 2}));
      EXPECT(torch::equal(batch.data.select(1, 0).select(1, 0).to(torch::kLong), batch.target));
    }
    EXPECT(seen == sizes);
  };
  for (const std::size_t workers : kWorkers) {
    const auto options = DataLoaderOptions(4).workers(workers);
    const auto map = BlobDataset<data::Example<>>::from_container_url(container_url(), "stack/", labelled);
    auto stacked = BlobDataset<data::Example<>>(map).map(data::transforms::Stack<>());
    check_batches(data::make_data_loader(stacked, options), {4, 4, 2});
    check_batches(data::make_data_loader(stacked, DataLoaderOptions(options).drop_last(true)), {4, 4});
    if (workers > 1) continue;  // the last, smaller batch may come before another one
    auto iterable = IterableBlobDataset<data::Example<>>::from_container_url(container_url(), "stack/", labelled);
    check_batches(data::make_data_loader(iterable.map(data::transforms::Stack<>()), options), {4, 4, 2});
  }
  const auto four_floats = [](Sample&& sample) { return aztorch::to_tensor(std::move(sample), {4}, torch::kFloat); };
  auto tensors = BlobDataset<data::TensorExample>::from_container_url(container_url(), "stack/", four_floats);
  auto loader = data::make_data_loader<samplers::SequentialSampler>(
      tensors.map(data::transforms::Stack<data::TensorExample>()), 10);
  for (auto& batch : *loader) EXPECT_EQUAL(batch.data[9][3].item<float>(), 9.75F);
}

TEST(every_sampler_works_with_any_number_of_workers) {
  constexpr std::size_t kSize = 50;
  put_all("samplers/", kSize);
  auto dataset = BlobDataset<>::from_container_url(container_url(), "samplers/");
  for (const std::size_t workers : kWorkers) {
    const auto options = DataLoaderOptions(8).workers(workers);
    auto sequential = data::make_data_loader<samplers::SequentialSampler>(dataset, options);
    EXPECT(numbers_of_epoch(*sequential) == iota(kSize));
    auto random = data::make_data_loader<samplers::RandomSampler>(dataset, options);
    const auto first = numbers_of_epoch(*random);
    const auto second = numbers_of_epoch(*random);
    EXPECT(sorted(first) == iota(kSize) && sorted(second) == iota(kSize) && first != second);
    std::vector<std::size_t> shuffled, in_order;
    for (std::size_t rank = 0; rank < 2; ++rank) {
      auto some = data::make_data_loader(dataset, samplers::DistributedRandomSampler(kSize, 2, rank), options);
      for (const std::size_t number : numbers_of_epoch(*some)) shuffled.push_back(number);
      auto half = data::make_data_loader(dataset, samplers::DistributedSequentialSampler(kSize, 2, rank), options);
      for (const std::size_t number : numbers_of_epoch(*half)) in_order.push_back(number);
    }
    EXPECT(sorted(shuffled) == iota(kSize) && shuffled != iota(kSize));
    EXPECT(sorted(in_order) == iota(kSize));
  }
}

TEST(a_loop_may_break_early) {
  put_all("break/", 40);
  auto dataset = BlobDataset<>::from_container_url(container_url(), "break/");
  auto iterable = IterableBlobDataset<>::from_container_url(container_url(), "break/");
  for (const std::size_t workers : kWorkers) {
    const auto options = DataLoaderOptions(4).workers(workers);
    {
      auto loader = data::make_data_loader<samplers::SequentialSampler>(dataset, options);
      for (auto& batch : *loader) {
        EXPECT_EQUAL(batch.size(), 4U);
        break;
      }
      auto of_stream = data::make_data_loader(iterable, options);
      for (auto& batch : *of_stream) {
        EXPECT_EQUAL(batch.size(), 4U);
        break;
      }
    }
    // The copies share one stream; its next epoch is complete.
    auto loader = data::make_data_loader<samplers::SequentialSampler>(dataset, options);
    EXPECT(numbers_of_epoch(*loader) == iota(40));
    auto of_stream = data::make_data_loader(iterable, options);
    EXPECT(sorted(numbers_of_epoch(*of_stream)) == iota(40));
  }
}

TEST(exceptions_in_workers_reach_the_loop) {
  const auto names = put_all("missing/", 30);
  const auto urls = urls_of(names);
  aztorch::remove(blob_url(names[13]));
  for (const std::size_t workers : kWorkers) {
    const auto options = DataLoaderOptions(5).workers(workers);
    std::vector<std::string> seen;
    auto map = data::make_data_loader<samplers::SequentialSampler>(BlobDataset<>::from_blob_urls(urls), options);
    auto errors = errors_of_epoch(*map, seen);
    EXPECT_EQUAL(errors.size(), 1U);
    EXPECT_CONTAINS(errors.at(0), names[13]);
    EXPECT_EQUAL(seen.size(), 25U);  // without the batch of the missing blob

    seen.clear();
    auto iterable = data::make_data_loader(IterableBlobDataset<>::from_blob_urls(urls), options);
    errors = errors_of_epoch(*iterable, seen);
    EXPECT_EQUAL(errors.size(), 1U);
    EXPECT_CONTAINS(errors.at(0), names[13]);
    EXPECT_EQUAL(seen.size(), 29U);
  }
  // An exception of the transform reaches the loop, too.
  const auto refuse = [](const Sample&) -> std::string { throw std::out_of_range("no label"); };
  auto loader = data::make_data_loader(
      BlobDataset<std::string>::from_blob_urls({urls[0]}, refuse), DataLoaderOptions(1).workers(1));
  const auto cause = [&loader] {
    try {
      (void)(loader->begin() == loader->end());
    } catch (const data::WorkerException& exception) {
      std::rethrow_exception(exception.original_exception);
    }
  };
  EXPECT_THROWS(std::out_of_range, cause(), EXPECT_CONTAINS(thrown.what(), "no label"));
}

// These three tests correspond to tests of azstoragetorch, Azure's connector for PyTorch, and have their names.

TEST(test_worker_sharding) {
  const auto names = put_all("sharding/", 30);
  for (const std::size_t workers : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    std::vector<std::size_t> all;
    for (std::size_t rank = 0; rank < 2; ++rank) {
      auto dataset = IterableBlobDataset<>::from_container_url(container_url(), "sharding/", {}, {},
                                                               IterableOptions().shard(rank, 2));
      auto loader = data::make_data_loader(dataset, DataLoaderOptions(4).workers(workers));
      const auto numbers = numbers_of_epoch(*loader);
      EXPECT_EQUAL(numbers.size(), 15U);
      for (const std::size_t number : numbers) {
        EXPECT_EQUAL(number % 2, rank);
        all.push_back(number);
      }
    }
    EXPECT(sorted(all) == iota(30));
  }
}

TEST(test_can_load_across_multiple_epochs) {
  put_all("epochs/", 20);
  for (const std::size_t workers : kWorkers) {
    const auto options = DataLoaderOptions(6).workers(workers);
    auto map = data::make_data_loader<samplers::SequentialSampler>(
        BlobDataset<>::from_container_url(container_url(), "epochs/"), options);
    auto plain = data::make_data_loader(IterableBlobDataset<>::from_container_url(container_url(), "epochs/"), options);
    auto shuffled = data::make_data_loader(
        IterableBlobDataset<>::from_container_url(container_url(), "epochs/", {}, {}, IterableOptions().shuffle(20, 3)),
        DataLoaderOptions(options).workers(std::min<std::size_t>(workers, 1)));
    std::set<std::vector<std::size_t>> orders;
    for (int epoch = 0; epoch < 3; ++epoch) {
      EXPECT(numbers_of_epoch(*map) == iota(20));
      EXPECT(sorted(numbers_of_epoch(*plain)) == iota(20));
      const auto order = numbers_of_epoch(*shuffled);
      EXPECT(sorted(order) == iota(20));
      orders.insert(order);
    }
    EXPECT_EQUAL(orders.size(), 3U);
  }
}

TEST(test_loader_with_workers_and_epochs) {
  constexpr std::size_t kBlobs = 6000;  // more than a page of the listing
  put_all("many/", kBlobs);
  const auto options = DataLoaderOptions(64).workers(4);
  auto dataset = BlobDataset<>::from_container_url(container_url(), "many/");
  EXPECT_EQUAL(*dataset.size(), kBlobs);
  auto map = data::make_data_loader(dataset, aztorch::PrefetchSampler(dataset), options);
  for (int epoch = 0; epoch < 2; ++epoch) EXPECT(sorted(numbers_of_epoch(*map)) == iota(kBlobs));
  EXPECT_EQUAL(count_requests("GET", "/many/"), 2 * kBlobs);

  // A transform of Blobs reads only names, which spares the server 12,000 requests.
  auto iterable = data::make_data_loader(
      IterableBlobDataset<std::string>::from_container_url(container_url(), "many/",
                                                           [](const Blob& blob) { return blob.blob_name(); }),
      options);
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::vector<std::size_t> numbers;
    for (auto& batch : *iterable) {
      for (const auto& name : batch) numbers.push_back(std::stoul(name.substr(name.size() - 5)));
    }
    EXPECT(sorted(numbers) == iota(kBlobs));
  }
}

TEST(datasets_are_made_of_manifests_and_ranges) {
  const auto names = put_all("sources/", 6);
  aztorch::Dataset::list(container_url(), "sources/").save_manifest(blob_url("manifests/sources"));
  put("sources/00003b", "came later");
  const auto options = DataLoaderOptions(4).workers(2);
  auto map = data::make_data_loader<samplers::SequentialSampler>(
      BlobDataset<>::from_manifest(blob_url("manifests/sources")), options);
  EXPECT(numbers_of_epoch(*map) == iota(6));
  auto iterable =
      data::make_data_loader(IterableBlobDataset<>::from_manifest(blob_url("manifests/sources")), options);
  EXPECT(sorted(numbers_of_epoch(*iterable)) == iota(6));
  aztorch::remove(blob_url("sources/00003b"));

  const auto ranges = aztorch::Dataset::from_ranges({{blob_url(names[0]), 0, 4}, {blob_url(names[5]), 5, 1}});
  BlobDataset<> of_ranges(ranges);
  EXPECT_EQUAL(text(of_ranges.get(1).data), "5");
  IterableBlobDataset<> stream_of_ranges(ranges, {}, IterableOptions().shard(1, 2));
  EXPECT_EQUAL(text(stream_of_ranges.get_batch(3)->at(0).data), "5");
  EXPECT(!stream_of_ranges.get_batch(3) && !stream_of_ranges.get_batch(3));
}

namespace {

using Numbers = aztorch::Positioned<data::Example<>>;

IterableBlobDataset<Numbers> shuffled_numbers() {
  return IterableBlobDataset<Numbers>::from_container_url(container_url(), "resume/", labelled, {},
                                                          IterableOptions().shuffle(16, 5));
}

// Runs an epoch up to `batches` batches (0: all), and returns the labels.
std::vector<std::size_t> train(IterableBlobDataset<Numbers>& dataset, std::size_t workers, std::size_t batches) {
  std::vector<std::size_t> labels;
  auto loader = data::make_data_loader(dataset.map(aztorch::KeepPositions<data::transforms::Stack<>>()),
                                       DataLoaderOptions(4).workers(workers));
  for (auto& batch : *loader) {
    for (std::int64_t i = 0; i < batch.batch.target.size(0); ++i) {
      labels.push_back(static_cast<std::size_t>(batch.batch.target[i].item<std::int64_t>()));
    }
    EXPECT_EQUAL(batch.positions.size(), static_cast<std::size_t>(batch.batch.data.size(0)));
    dataset.mark_consumed(batch);
    if (--batches == 0) break;
  }
  return labels;
}

}  // namespace

TEST(an_iterable_dataset_resumes_after_the_consumed_batches) {
  put_all("resume/", 48, floats);
  for (std::size_t round = 0; round < 6; ++round) {
    const std::size_t workers = kWorkers[round % 3];
    auto dataset = shuffled_numbers();
    const auto epoch = train(dataset, workers, 0);
    auto labels = train(dataset, workers, 4 + round);
    torch::serialize::OutputArchive state;
    dataset.save(state);
    aztorch::save(state, blob_url("checkpoints/iterable"));

    auto resumed = shuffled_numbers();
    torch::serialize::InputArchive saved;
    aztorch::load(saved, blob_url("checkpoints/iterable"));
    resumed.load(saved);
    EXPECT_EQUAL(resumed.cursor(), dataset.cursor());
    for (const std::size_t label : train(resumed, workers, 0)) labels.push_back(label);
    EXPECT(sorted(labels) == iota(48));
    EXPECT(labels != epoch);
    // The next epoch has the order that it would have had without the interruption.
    auto twice = shuffled_numbers();
    train(twice, 0, 0);
    train(twice, 0, 0);
    if (workers < 2) EXPECT(train(resumed, workers, 0) == train(twice, workers, 0));
  }
  auto other = IterableBlobDataset<>::from_container_url(container_url(), "resume/");
  EXPECT_THROWS(aztorch::Error, other.resume(shuffled_numbers().cursor()),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(many_workers_share_one_iterable_dataset) {
  constexpr std::size_t kBlobs = 200;
  put_all("shared/", kBlobs);
  std::atomic<int> calls{0};
  auto dataset = IterableBlobDataset<>::from_container_url(
      container_url(), "shared/",
      [&calls](Sample&& sample) {
        ++calls;
        return BlobExample(std::move(sample));
      },
      {}, IterableOptions().shuffle(100, 1));
  auto loader = data::make_data_loader(dataset, DataLoaderOptions(3).workers(16).enforce_ordering(false));
  for (int epoch = 0; epoch < 4; ++epoch) {
    std::vector<std::size_t> numbers;
    for (auto& batch : *loader) {
      for (const auto& example : batch) numbers.push_back(number_of(example));
      dataset.mark_consumed(batch);
    }
    EXPECT(sorted(numbers) == iota(kBlobs));
    EXPECT(!check::contains(dataset.cursor(), "skip="));
  }
  EXPECT_EQUAL(calls.load(), int{4 * kBlobs});
}

int main(int argc, char** argv) { return check::run_all(argc, argv); }
