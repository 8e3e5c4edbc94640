// Tensors without a copy, examples and transforms. Part of torch_dataset_test.
#include <aztorch/torch/blob_transform.hpp>  // first, to check that it compiles alone

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
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
using aztorch::Blob;
using aztorch::BlobDataset;
using aztorch::BlobExample;
using aztorch::IterableBlobDataset;
using aztorch::Sample;
using data::DataLoaderOptions;

namespace {

Sample sample_of(const std::string& name, const std::string& bytes) {
  put(name, bytes);
  return aztorch::Dataset::from_urls({blob_url(name)}).get(0);
}

}  // namespace

TEST(a_tensor_owns_the_memory_of_its_sample) {
  Sample sample = sample_of("tensor/floats", floats(7));
  const void* memory = sample.data();
  torch::Tensor tensor = aztorch::to_tensor(std::move(sample), {2, 2}, torch::kFloat);
  EXPECT(tensor.data_ptr() == memory);
  const torch::Tensor view = tensor[1];
  tensor = torch::Tensor();
  EXPECT_EQUAL(view[1].item<float>(), 7.75F);

  Sample bytes = sample_of("tensor/bytes", "abc");
  memory = bytes.data();
  tensor = aztorch::to_tensor(std::move(bytes));
  EXPECT(tensor.data_ptr() == memory && tensor.dtype() == torch::kUInt8);
  EXPECT(tensor.sizes() == torch::IntArrayRef({3}));
  tensor.add_(1);
  EXPECT_EQUAL(text(tensor), "bcd");
}

TEST(a_tensor_of_another_size_is_refused_and_the_sample_is_unchanged) {
  Sample sample = sample_of("tensor/six", "sixsix");
  const auto refuse = [&sample](const std::vector<std::int64_t>& sizes, torch::Dtype dtype, const std::string& bytes) {
    EXPECT_THROWS(aztorch::Error, aztorch::to_tensor(std::move(sample), sizes, dtype), {
      EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT);
      EXPECT_CONTAINS(thrown.what(), "tensor/six");
      EXPECT_CONTAINS(thrown.what(), "6 bytes");
      EXPECT_CONTAINS(thrown.what(), bytes);
    });
    EXPECT_EQUAL(sample.size(), 6U);
  };
  refuse({2, 2}, torch::kFloat, "takes 16");
  refuse({7}, torch::kUInt8, "takes 7");
  refuse({-6}, torch::kUInt8, "takes");
  refuse({3, std::int64_t{1} << 62, 8}, torch::kUInt8, "takes");
  EXPECT_EQUAL(text(aztorch::to_tensor(std::move(sample), {3, 2})), "sixsix");
}

TEST(empty_blobs_are_empty_tensors) {
  put_all("empty/", 3, [](std::size_t) { return ""; });
  EXPECT_EQUAL(aztorch::to_tensor(sample_of("tensor/empty", ""), {0, 4}, torch::kFloat).size(1), 4);
  auto map = data::make_data_loader(BlobDataset<>::from_container_url(container_url(), "empty/"), 2);
  auto iterable = data::make_data_loader(IterableBlobDataset<>::from_container_url(container_url(), "empty/"), 2);
  std::size_t count = 0;
  const auto see = [&count](const BlobExample& example) {
    EXPECT(example.data.defined() && example.data.dtype() == torch::kUInt8);
    EXPECT_EQUAL(example.data.numel(), 0);
    ++count;
  };
  for (auto& batch : *map) std::for_each(batch.begin(), batch.end(), see);
  for (auto& batch : *iterable) std::for_each(batch.begin(), batch.end(), see);
  EXPECT_EQUAL(count, 6U);
}

TEST(the_default_example_has_url_name_position_and_bytes) {
  const auto names = put_all("default/", 3);
  auto dataset = BlobDataset<>::from_container_url(container_url(), "default/");
  EXPECT_EQUAL(*dataset.size(), 3U);
  const BlobExample example = dataset.get(2);
  EXPECT_EQUAL(example.url, container_url().substr(0, container_url().find('?')) + "/" + names[2]);
  EXPECT_EQUAL(example.blob_name, names[2]);
  EXPECT_EQUAL(example.position, 2U);
  EXPECT_EQUAL(text(example.data), "blob 2");
}

TEST(every_form_of_a_transform_works) {
  const auto names = put_all("transform/", 4);
  const auto all = [&names](auto dataset) {
    std::vector<std::string> values;
    const std::vector<std::size_t> indices{3, 1};
    for (const std::string& value : dataset.get_batch(indices)) values.push_back(value);
    EXPECT(values == (std::vector<std::string>{names[3] + " 6", names[1] + " 6"}));
    EXPECT_EQUAL(dataset.get(2), names[2] + " 6");
    return dataset.takes_blob();
  };
  using Texts = BlobDataset<std::string>;
  const auto from = [](aztorch::BlobTransform<std::string> transform) {
    return Texts::from_container_url(container_url(), "transform/", std::move(transform));
  };
  const auto describe = [](const auto& source) { return source.blob_name() + " " + std::to_string(source.size()); };
  EXPECT(!all(from([&](const Sample& sample) { return describe(sample); })));
  EXPECT(!all(from([&](Sample&& sample) { return describe(sample); })));
  EXPECT(!all(from([&](Sample sample) { return describe(sample); })));
  EXPECT(!all(from(describe)));  // accepts both: the bytes are fetched
  EXPECT(all(from([&](const Blob& blob) { return describe(blob); })));
  EXPECT(all(from([&](Blob blob) { return describe(blob); })));

  using PositionedTexts = BlobDataset<aztorch::Positioned<std::string>>;
  auto positioned = PositionedTexts::from_container_url(container_url(), "transform/", describe);
  EXPECT_EQUAL(positioned.get(3).position, 3U);
  EXPECT_EQUAL(positioned.get(3).example, names[3] + " 6");
}

TEST(examples_share_the_memory_of_the_fetched_bytes) {
  put_all("zero-copy/", 40, floats);
  std::mutex mutex;
  std::set<const void*> fetched;
  const auto transform = [&](Sample&& sample) {
    const std::lock_guard<std::mutex> lock(mutex);
    fetched.insert(sample.data());
    return data::TensorExample(aztorch::to_tensor(std::move(sample), {4}, torch::kFloat));
  };
  using Tensors = BlobDataset<data::TensorExample>;
  auto loader = data::make_data_loader(Tensors::from_container_url(container_url(), "zero-copy/", transform),
                                       DataLoaderOptions(8).workers(4));
  std::size_t count = 0;
  for (auto& batch : *loader) {
    for (auto& example : batch) {
      EXPECT_EQUAL(fetched.count(example.data.data_ptr()), 1U);
      ++count;
    }
  }
  EXPECT_EQUAL(count, 40U);
}

TEST(a_blob_transform_transfers_only_the_bytes_that_it_reads) {
  FaultServer server(std::string(std::size_t{64} << 20, 'v'), serve_all());
  std::vector<std::string> urls;
  for (int i = 0; i < 8; ++i) urls.push_back(server.url() + "-" + std::to_string(i));
  std::atomic<int> unread{0};
  const auto transform = [&unread](const Blob& blob) {
    if (blob.blob_name() == "blob-3") {
      ++unread;
      return std::string("passed");
    }
    std::string bytes(10, '\0');
    bytes.resize(blob.reader().read_at(std::uint64_t{32} << 20, bytes.data(), bytes.size()));
    return bytes;
  };
  const auto check_epoch = [&](auto& loader) {
    std::map<std::string, int> values;
    for (auto& batch : loader) {
      for (const std::string& value : batch) ++values[value];
    }
    EXPECT_EQUAL(values["vvvvvvvvvv"], 7);
    EXPECT_EQUAL(values["passed"], 1);
  };
  for (const std::size_t workers : kWorkers) {
    const int before = server.gets();
    const std::size_t bytes_before = server.bytes_sent();
    auto map = BlobDataset<std::string>::from_blob_urls(urls, transform);
    auto map_loader = data::make_data_loader(map, aztorch::PrefetchSampler(map), DataLoaderOptions(2).workers(workers));
    auto iterable = data::make_data_loader(IterableBlobDataset<std::string>::from_blob_urls(urls, transform),
                                           DataLoaderOptions(2).workers(workers));
    EXPECT_EQUAL(server.gets(), before);
    check_epoch(*map_loader);
    check_epoch(*iterable);
    // 14 blobs were read, each with an open and a read of some kilobytes out of 64 MiB.
    EXPECT(server.gets() - before >= 14 && server.gets() - before <= 28);
    EXPECT(server.bytes_sent() - bytes_before < std::size_t{64} << 20);
  }
  EXPECT_EQUAL(unread.load(), 6);
}
