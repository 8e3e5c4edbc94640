// BatchedStream and Permutation, which the datasets and samplers for LibTorch are built on. Without LibTorch. Part of
// dataset_test.
#include <aztorch/detail/batched_stream.hpp>
#include <aztorch/detail/permutation.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <aztorch/aztorch.hpp>

#include "blobs.hpp"
#include "check.hpp"
#include "container.hpp"

using aztorch::Dataset;
using aztorch::Error;
using aztorch::Sample;
using aztorch::Stream;
using aztorch::detail::BatchedStream;

namespace {

BatchedStream batched_stream(const std::string& prefix) {
  return BatchedStream(Stream::list(container_url(), prefix), BatchedStream::SampleKey::name);
}

using Names = std::vector<std::string>;

std::string text(const Sample& sample) {
  return std::string(reinterpret_cast<const char*>(sample.data()), sample.size());
}

Names names_of(const std::vector<Sample>& samples) {
  Names names;
  for (const auto& sample : samples) names.push_back(sample.blob_name());
  return names;
}

Names rest_of(BatchedStream& stream) {
  Names names;
  for (auto batch = stream.take(3); !batch.empty(); batch = stream.take(3)) {
    for (const auto& sample : batch) names.push_back(sample.blob_name());
  }
  return names;
}

Names slice(const Names& names, std::size_t begin, std::size_t end) {
  return Names(names.begin() + static_cast<std::ptrdiff_t>(begin), names.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace

TEST(the_first_reset_keeps_the_position) {
  const auto names = put_all("stream-reset/", 8);
  BatchedStream stream = batched_stream("stream-reset/");
  stream.reset();
  EXPECT(names_of(stream.take(5)) == slice(names, 0, 5));
  stream.mark_consumed(0);
  EXPECT(names_of(stream.take(5)) == slice(names, 5, 8));
  EXPECT(stream.take(5).empty() && stream.take(5).empty());
  const std::string cursor = stream.cursor();
  stream.reset();
  EXPECT(rest_of(stream) == names);

  stream.resume(cursor);
  EXPECT_EQUAL(stream.cursor(), cursor);
  stream.reset();
  EXPECT(rest_of(stream) == slice(names, 5, 8));
  EXPECT_EQUAL(stream.cursor(), cursor);
  stream.reset();
  EXPECT(rest_of(stream) == names);

  // After a read without a reset, the first reset starts the next epoch.
  BatchedStream read_first = batched_stream("stream-reset/");
  EXPECT_EQUAL(read_first.take(2).size(), 2U);
  read_first.reset();
  EXPECT(rest_of(read_first) == names);
}

TEST(resume_skips_batches_that_were_consumed_out_of_order) {
  const auto names = put_all("stream-order/", 20);
  for (const bool by_name : {true, false}) {
    const auto make = [by_name, &names] {
      if (by_name) return batched_stream("stream-order/");
      return BatchedStream(Stream::from_urls(urls_of(names)), BatchedStream::SampleKey::position);
    };
    BatchedStream stream = make();
    EXPECT_EQUAL(stream.cursor(), make().cursor());
    for (int batch = 0; batch < 5; ++batch) stream.take(3);
    stream.mark_consumed(4);  // the batch of 3 to 5
    EXPECT(check::contains(stream.cursor(), "skip="));
    stream.mark_consumed(1);   // the batch of 0 to 2
    EXPECT(!check::contains(stream.cursor(), "skip="));
    stream.mark_consumed(12);  // the batch of 12 to 14
    EXPECT_THROWS(Error, stream.mark_consumed(13), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
    EXPECT_THROWS(Error, stream.mark_consumed(15), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));

    Names expected = slice(names, 6, 12);
    for (const auto& name : slice(names, 15, 20)) expected.push_back(name);
    const std::string cursor = stream.cursor();
    BatchedStream second = make();
    second.resume(cursor);
    EXPECT_EQUAL(second.cursor(), cursor);
    // Resume once more, before and after the skipped samples.
    EXPECT(names_of(second.take(4)) == slice(names, 6, 10));
    second.mark_consumed(6);
    BatchedStream third = make();
    third.resume(second.cursor());
    EXPECT(rest_of(third) == slice(expected, 4, 11));
    EXPECT(names_of(second.take(5)) == slice(expected, 4, 9));
    second.mark_consumed(10);
    EXPECT(!check::contains(second.cursor(), "skip="));
    third.resume(second.cursor());
    EXPECT(rest_of(third) == slice(names, 18, 20));
    EXPECT_THROWS(Error, third.resume("skip=1-2 x"), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
  }
}

TEST(resume_recognises_samples_by_name_when_the_container_changed) {
  const auto names = put_all("stream-grew/", 12);
  BatchedStream stream = batched_stream("stream-grew/");
  for (int batch = 0; batch < 3; ++batch) stream.take(3);
  stream.mark_consumed(0);
  stream.mark_consumed(6);
  put("stream-grew/00004b", "new");  // shifts the positions behind it by one
  aztorch::remove(blob_url(names[10]));
  BatchedStream resumed = batched_stream("stream-grew/");
  resumed.resume(stream.cursor());
  const auto rest = rest_of(resumed);
  const auto times = [&](std::size_t number) { return std::count(rest.begin(), rest.end(), names[number]); };
  for (const std::size_t left : {3U, 4U, 5U, 9U, 11U}) EXPECT_EQUAL(times(left), 1);
  for (const std::size_t gone : {0U, 1U, 2U, 6U, 7U, 8U, 10U}) EXPECT_EQUAL(times(gone), 0);
}

TEST(samples_around_an_error_are_not_lost) {
  const auto names = put_all("stream-error/", 9);
  aztorch::remove(blob_url(names[4]));
  BatchedStream stream(Stream::from_urls(urls_of(names)), BatchedStream::SampleKey::position);
  EXPECT(names_of(stream.take(3)) == slice(names, 0, 3));
  EXPECT_THROWS(Error, stream.take(3), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND);
    EXPECT_CONTAINS(thrown.what(), names[4]);
  });
  stream.mark_consumed(0);
  const std::string before = stream.cursor();
  // The next batch has the samples that were taken before the error.
  EXPECT(names_of(stream.take(3)) == (Names{names[3], names[5], names[6]}));
  stream.mark_consumed(3);
  BatchedStream resumed(Stream::from_urls(urls_of(names)), BatchedStream::SampleKey::position);
  resumed.resume(stream.cursor());
  EXPECT(rest_of(resumed) == slice(names, 7, 9));
  // A job that resumes from before the error meets it again.
  resumed.resume(before);
  EXPECT_THROWS(Error, resumed.take(3), EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND));
}

TEST(threads_share_a_dataset_and_a_batched_stream) {
  constexpr std::size_t kBlobs = 400, kThreads = 8, kEpochs = 3;
  put_all("threads/", kBlobs);
  const auto dataset = Dataset::list(container_url(), "threads/");
  const auto shared =
      std::make_shared<BatchedStream>(Stream::list(container_url(), "threads/"), BatchedStream::SampleKey::name);
  std::vector<std::atomic<int>> seen(kBlobs);
  std::atomic<int> wrong{0};
  for (std::size_t epoch = 0; epoch < kEpochs; ++epoch) {
    shared->reset();
    std::vector<std::thread> threads;
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, copy = dataset, random = std::mt19937(static_cast<unsigned>(thread))]() mutable {
        for (auto batch = shared->take(5); !batch.empty(); batch = shared->take(5)) {
          for (const auto& sample : batch) {
            ++seen[static_cast<std::size_t>(sample.position())];
            if (text(sample) != "blob " + std::to_string(sample.position())) ++wrong;
          }
          shared->mark_consumed(batch.front().position());
          const std::vector<std::size_t> indices{random() % kBlobs, random() % kBlobs, random() % kBlobs};
          copy.prefetch({indices[2], indices[0]});
          const auto samples = copy.get_batch(indices);
          for (std::size_t i = 0; i < samples.size(); ++i) {
            if (text(samples[i]) != "blob " + std::to_string(indices[i])) ++wrong;
          }
          if (shared->cursor().empty()) ++wrong;
        }
      });
    }
    for (auto& thread : threads) thread.join();
  }
  EXPECT_EQUAL(wrong.load(), 0);
  EXPECT(std::all_of(seen.begin(), seen.end(), [](const auto& count) { return count == int{kEpochs}; }));
  EXPECT(!check::contains(shared->cursor(), "skip="));
}

TEST(a_permutation_contains_every_index_once_and_is_uniform) {
  using aztorch::detail::Permutation;
  for (const std::size_t size : {1U, 2U, 3U, 4U, 5U, 17U, 64U, 65U, 1000U, 100003U}) {
    const Permutation order(size, 7, 3);
    std::vector<bool> seen(size);
    for (std::size_t i = 0; i < size; ++i) seen[order[i]] = true;
    EXPECT(std::all_of(seen.begin(), seen.end(), [](bool once) { return once; }));
  }
  // Over many epochs: the distribution of the value at an index, and of the distance to the next value. Chi-squared
  // with 99 and 98 degrees of freedom exceeds 180 once in a million.
  constexpr std::size_t kSize = 100, kEpochs = 20'000;
  for (const std::size_t index : {0U, 1U, 50U, 99U}) {
    std::vector<double> values(kSize), distances(kSize);
    for (std::size_t epoch = 0; epoch < kEpochs; ++epoch) {
      const Permutation order(kSize, 1, epoch);
      const std::size_t value = order[index];
      ++values[value];
      ++distances[(order[(index + 1) % kSize] + kSize - value) % kSize];
    }
    const auto chi_squared = [](const std::vector<double>& counts, std::size_t first) {
      const double expected = double(kEpochs) / double(counts.size() - first);
      double sum = 0;
      for (std::size_t i = first; i < counts.size(); ++i) sum += (counts[i] - expected) * (counts[i] - expected);
      return sum / expected;
    };
    EXPECT(chi_squared(values, 0) < 180);
    EXPECT(chi_squared(distances, 1) < 180);
  }
  // Checkpoints depend on the order, so it must never change.
  const Permutation order(10, 1, 2);
  std::string fixed;
  for (std::size_t i = 0; i < 10; ++i) fixed += std::to_string(order[i]);
  EXPECT_EQUAL(fixed, "5168403972");
}
