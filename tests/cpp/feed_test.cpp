// StreamFeed and Permutation, on which the datasets and samplers for torch rest: places that are kept, restored and shared
// by threads. No torch.
#include <aztorch/detail/permutation.hpp>
#include <aztorch/detail/stream_feed.hpp>

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
using aztorch::detail::StreamFeed;

namespace {

StreamFeed feed_of(const std::string& prefix) {
  return StreamFeed(Stream::list(container_url(), prefix), StreamFeed::KnownBy::name);
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

Names rest_of(StreamFeed& feed) {
  Names names;
  for (auto batch = feed.take(3); !batch.empty(); batch = feed.take(3)) {
    for (const auto& sample : batch) names.push_back(sample.blob_name());
  }
  return names;
}

Names slice(const Names& names, std::size_t begin, std::size_t end) {
  return Names(names.begin() + static_cast<std::ptrdiff_t>(begin), names.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace

TEST(a_feed_keeps_its_place_through_the_first_reset) {
  const auto names = put_all("feed-reset/", 8);
  StreamFeed feed = feed_of("feed-reset/");
  feed.reset();
  EXPECT(names_of(feed.take(5)) == slice(names, 0, 5));
  feed.mark_consumed(0);
  EXPECT(names_of(feed.take(5)) == slice(names, 5, 8));
  EXPECT(feed.take(5).empty() && feed.take(5).empty());
  const std::string cursor = feed.cursor();
  feed.reset();
  EXPECT(rest_of(feed) == names);

  feed.resume(cursor);
  EXPECT_EQUAL(feed.cursor(), cursor);
  feed.reset();
  EXPECT(rest_of(feed) == slice(names, 5, 8));
  EXPECT_EQUAL(feed.cursor(), cursor);
  feed.reset();
  EXPECT(rest_of(feed) == names);

  // Read before any reset: the next one begins an epoch.
  StreamFeed unreset = feed_of("feed-reset/");
  EXPECT_EQUAL(unreset.take(2).size(), 2U);
  unreset.reset();
  EXPECT(rest_of(unreset) == names);
}

TEST(a_feed_resumes_after_batches_out_of_order) {
  const auto names = put_all("feed-order/", 20);
  for (const bool by_name : {true, false}) {
    const auto make = [by_name, &names] {
      if (by_name) return feed_of("feed-order/");
      return StreamFeed(Stream::from_urls(urls_of(names)), StreamFeed::KnownBy::position);
    };
    StreamFeed feed = make();
    EXPECT_EQUAL(feed.cursor(), make().cursor());
    for (int batch = 0; batch < 5; ++batch) feed.take(3);
    feed.mark_consumed(4);  // 3 to 5
    EXPECT(check::contains(feed.cursor(), "skip="));
    feed.mark_consumed(1);   // 0 to 2
    EXPECT(!check::contains(feed.cursor(), "skip="));
    feed.mark_consumed(12);  // 12 to 14
    EXPECT_THROWS(Error, feed.mark_consumed(13), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
    EXPECT_THROWS(Error, feed.mark_consumed(15), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));

    Names expected = slice(names, 6, 12);
    for (const auto& name : slice(names, 15, 20)) expected.push_back(name);
    const std::string cursor = feed.cursor();
    StreamFeed second = make();
    second.resume(cursor);
    EXPECT_EQUAL(second.cursor(), cursor);
    // And again, before and after what is skipped.
    EXPECT(names_of(second.take(4)) == slice(names, 6, 10));
    second.mark_consumed(6);
    StreamFeed third = make();
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

TEST(a_feed_of_a_container_that_grew_skips_by_name) {
  const auto names = put_all("feed-grew/", 12);
  StreamFeed feed = feed_of("feed-grew/");
  for (int batch = 0; batch < 3; ++batch) feed.take(3);
  feed.mark_consumed(0);
  feed.mark_consumed(6);
  put("feed-grew/00004b", "new");  // whatever comes behind it moves on by one
  aztorch::remove(blob_url(names[10]));
  StreamFeed resumed = feed_of("feed-grew/");
  resumed.resume(feed.cursor());
  const auto rest = rest_of(resumed);
  for (const std::size_t left : {3U, 4U, 5U, 9U, 11U}) EXPECT_EQUAL(std::count(rest.begin(), rest.end(), names[left]), 1);
  for (const std::size_t gone : {0U, 1U, 2U, 6U, 7U, 8U, 10U}) EXPECT_EQUAL(std::count(rest.begin(), rest.end(), names[gone]), 0);
}

TEST(a_feed_goes_on_after_an_error) {
  const auto names = put_all("feed-error/", 9);
  aztorch::remove(blob_url(names[4]));
  StreamFeed feed(Stream::from_urls(urls_of(names)), StreamFeed::KnownBy::position);
  EXPECT(names_of(feed.take(3)) == slice(names, 0, 3));
  EXPECT_THROWS(Error, feed.take(3), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND);
    EXPECT_CONTAINS(thrown.what(), names[4]);
  });
  feed.mark_consumed(0);
  const std::string before = feed.cursor();
  // What came before the error is not lost.
  EXPECT(names_of(feed.take(3)) == (Names{names[3], names[5], names[6]}));
  feed.mark_consumed(3);
  StreamFeed resumed(Stream::from_urls(urls_of(names)), StreamFeed::KnownBy::position);
  resumed.resume(feed.cursor());
  EXPECT(rest_of(resumed) == slice(names, 7, 9));
  // A job that ended with the error tries again.
  resumed.resume(before);
  EXPECT_THROWS(Error, resumed.take(3), EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND));
}

TEST(threads_share_a_dataset_and_a_stream) {
  constexpr std::size_t kBlobs = 400, kThreads = 8, kEpochs = 3;
  put_all("threads/", kBlobs);
  const auto dataset = Dataset::list(container_url(), "threads/");
  const auto shared = std::make_shared<StreamFeed>(Stream::list(container_url(), "threads/"), StreamFeed::KnownBy::name);
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

TEST(a_permutation_has_every_index_once_and_no_habits) {
  using aztorch::detail::Permutation;
  for (const std::size_t size : {1U, 2U, 3U, 4U, 5U, 17U, 64U, 65U, 1000U, 100003U}) {
    const Permutation order(size, 7, 3);
    std::vector<bool> seen(size);
    for (std::size_t i = 0; i < size; ++i) seen[order[i]] = true;
    EXPECT(std::all_of(seen.begin(), seen.end(), [](bool once) { return once; }));
  }
  // Where an index lands, and what follows it, over many epochs: chi-squared with 99 and 98 degrees of freedom, whose
  // values exceed 180 once in a million.
  constexpr std::size_t kSize = 100, kEpochs = 20'000;
  for (const std::size_t index : {0U, 1U, 50U, 99U}) {
    std::vector<double> place(kSize), next(kSize);
    for (std::size_t epoch = 0; epoch < kEpochs; ++epoch) {
      const Permutation order(kSize, 1, epoch);
      const std::size_t value = order[index];
      ++place[value];
      ++next[(order[(index + 1) % kSize] + kSize - value) % kSize];
    }
    const auto chi_squared = [](const std::vector<double>& counts, std::size_t first) {
      const double expected = double(kEpochs) / double(counts.size() - first);
      double sum = 0;
      for (std::size_t i = first; i < counts.size(); ++i) sum += (counts[i] - expected) * (counts[i] - expected);
      return sum / expected;
    };
    EXPECT(chi_squared(place, 0) < 180);
    EXPECT(chi_squared(next, 1) < 180);
  }
  // Fixed for ever: checkpoints depend on it.
  const Permutation order(10, 1, 2);
  std::string fixed;
  for (std::size_t i = 0; i < 10; ++i) fixed += std::to_string(order[i]);
  EXPECT_EQUAL(fixed, "5168403972");
}
