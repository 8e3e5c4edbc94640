// Dataset, Stream, Sample and Blob, on Azurite and on a server that counts requests. Without LibTorch.
#include <aztorch/dataset.hpp>
#include <aztorch/stream.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <aztorch/aztorch.hpp>

#include "blobs.hpp"
#include "check.hpp"
#include "container.hpp"
#include "fault_server.hpp"

using aztorch::Blob;
using aztorch::BlobReader;
using aztorch::Dataset;
using aztorch::Error;
using aztorch::Sample;
using aztorch::Stream;

static_assert(!std::is_copy_constructible_v<Sample> && std::is_nothrow_move_constructible_v<Sample>);
static_assert(!std::is_copy_constructible_v<Stream> && std::is_nothrow_move_constructible_v<Stream>);
static_assert(std::is_nothrow_copy_constructible_v<Dataset> && std::is_copy_constructible_v<Blob>);
static_assert(!std::is_convertible_v<Sample, Blob>, "a function of a Blob must not be callable with a Sample");

namespace {

std::string text(const Sample& sample) {
  return std::string(reinterpret_cast<const char*>(sample.data()), sample.size());
}

std::string text(BlobReader reader) {
  std::string bytes(static_cast<std::size_t>(reader.size()), '\0');
  bytes.resize(reader.read(bytes.data(), bytes.size()));
  return bytes;
}

// The URL, without a query, of a blob in the container of the tests.
std::string url_without_query(const std::string& name) {
  return container_url().substr(0, container_url().find('?')) + "/" + name;
}

// A member of a tar archive in ustar format. The archive ends with two blocks of zeros, which are not part of this.
std::string tar_member(const std::string& path, const std::string& bytes) {
  std::string header(512, '\0');
  const auto field = [&header](std::size_t at, const std::string& value) { header.replace(at, value.size(), value); };
  char size[12];
  std::snprintf(size, sizeof size, "%011zo", bytes.size());
  field(0, path);
  field(100, "0000644");
  field(124, size);
  field(156, "0");
  field(257, std::string("ustar\0" "00", 8));
  field(148, "        ");
  unsigned sum = 0;
  for (const char byte : header) sum += static_cast<unsigned char>(byte);
  char checksum[8];
  std::snprintf(checksum, sizeof checksum, "%06o", sum);
  field(148, std::string(checksum, 7));
  return header + bytes + std::string((512 - bytes.size() % 512) % 512, '\0');
}

std::vector<std::string> read_all(const Stream& stream) {
  std::vector<std::string> names;
  while (const auto sample = stream.next()) names.push_back(sample->blob_name());
  return names;
}

template <typename T>
std::vector<T> sorted(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

TEST(a_dataset_lists_a_prefix_in_name_order) {
  const auto names = put_all("list/", 12);
  put("lisu", "not of the prefix");
  const auto dataset = Dataset::list(container_url(), "list/");
  EXPECT_EQUAL(dataset.size(), 12U);
  for (std::size_t i = 0; i < dataset.size(); ++i) {
    EXPECT_EQUAL(dataset.blob_name(i), names[i]);
    EXPECT_EQUAL(dataset.url(i), url_without_query(names[i]));
    EXPECT_EQUAL(dataset.blob_size(i), ("blob " + std::to_string(i)).size());
    EXPECT(check::contains(dataset.url(i), "/" + dataset.container_name(i) + "/"));
    const Sample sample = dataset.get(i);
    EXPECT_EQUAL(text(sample), "blob " + std::to_string(i));
    EXPECT_EQUAL(sample.url(), dataset.url(i));
    EXPECT_EQUAL(sample.blob_name(), names[i]);
    EXPECT_EQUAL(sample.container_name(), dataset.container_name(i));
    EXPECT_EQUAL(sample.position(), i);
    EXPECT_EQUAL(sample.blob_size(), sample.size());
    EXPECT_EQUAL(reinterpret_cast<std::uintptr_t>(sample.data()) % 64, 0U);
  }
  EXPECT(Dataset::list(container_url()).size() > 12U);
  EXPECT_EQUAL(Dataset::list(container_url(), "no such prefix").size(), 0U);
  EXPECT_THROWS(Error, dataset.get(12), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
  EXPECT_THROWS(Error, dataset.blob_name(12), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
  EXPECT_THROWS(Error, dataset.container_name(12), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
  EXPECT_THROWS(Error, dataset.blob_size(12), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
  EXPECT_THROWS(Error, dataset.url(12), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
}

TEST(bad_urls_and_missing_containers_are_errors) {
  const std::string url = container_url();
  const std::string missing = url.substr(0, url.find('?')) + "-missing" + url.substr(url.find('?'));
  EXPECT_THROWS(Error, Dataset::list(missing), EXPECT(thrown.http_status() == 403 || thrown.http_status() == 404));
  EXPECT_THROWS(Error, Dataset::list("not a url"), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
  EXPECT_THROWS(Error, Dataset::from_urls({blob_url("a"), std::string("http://127.0.0.1/a/b/c\0d", 24)}),
                EXPECT_CONTAINS(thrown.what(), "NUL"));
  EXPECT_THROWS(Error, Stream::list(url, "", {2, 2}), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(a_dataset_of_urls_knows_a_size_after_the_first_read) {
  const auto names = put_all("urls/", 3);
  const auto dataset = Dataset::from_urls(urls_of({names[2], names[0], names[2]}));
  EXPECT_EQUAL(dataset.size(), 3U);
  EXPECT_EQUAL(dataset.blob_size(0), UINT64_MAX);
  EXPECT_EQUAL(dataset.blob_name(1), names[0]);
  EXPECT_EQUAL(text(dataset.get(1)), "blob 0");
  EXPECT_EQUAL(dataset.blob_size(1), 6U);
  const std::string long_name = "urls/" + std::string(700, 'x');
  EXPECT_EQUAL(Dataset::from_urls({blob_url(long_name)}).url(0), url_without_query(long_name));
  EXPECT_EQUAL(Dataset::from_urls({}).size(), 0U);
}

TEST(ranges_and_tar_members_are_samples) {
  const std::string tar = tar_member("one.txt", "first") + tar_member("dir/two.txt", std::string(3000, '2')) +
                          tar_member("empty", "") + std::string(1024, '\0');
  put("packed.tar", tar);
  const auto ranges = Dataset::from_ranges({{blob_url("packed.tar"), 512, 5}, {blob_url("packed.tar"), 514, 2}});
  EXPECT_EQUAL(text(ranges.get(0)), "first");
  EXPECT_EQUAL(text(ranges.get(1)), "rs");
  EXPECT_EQUAL(ranges.blob_size(1), 2U);
  EXPECT_EQUAL(text(ranges.open(1)), "rs");

  const auto members = Dataset::from_tars({blob_url("packed.tar")});
  EXPECT_EQUAL(members.size(), 3U);
  EXPECT_EQUAL(members.blob_name(1), "dir/two.txt");
  EXPECT_EQUAL(members.url(1), url_without_query("packed.tar"));
  EXPECT_EQUAL(text(members.get(1)), std::string(3000, '2'));
  EXPECT_EQUAL(members.get(2).size(), 0U);
  const Blob blob(members, 0);
  EXPECT_EQUAL(blob.size(), 5U);
  EXPECT_EQUAL(text(blob.reader()), "first");
}

TEST(a_manifest_keeps_the_entries_that_were_saved) {
  const auto names = put_all("manifest/", 4);
  Dataset::list(container_url(), "manifest/").save_manifest(blob_url("manifests/a"));
  put("manifest/00001b", "came later");
  const auto dataset = Dataset::from_manifest(blob_url("manifests/a"));
  EXPECT_EQUAL(dataset.size(), 4U);
  EXPECT_EQUAL(dataset.blob_name(2), names[2]);
  EXPECT_EQUAL(text(dataset.get(2)), "blob 2");
  aztorch::remove(blob_url("manifest/00001b"));
}

TEST(a_batch_has_the_order_of_its_indices_and_fails_as_a_whole) {
  put_all("batch/", 40);
  const auto dataset = Dataset::list(container_url(), "batch/");
  const auto batch = dataset.get_batch({30, 7, 30, 0});
  EXPECT_EQUAL(batch.size(), 4U);
  EXPECT_EQUAL(text(batch[0]), "blob 30");
  EXPECT_EQUAL(text(batch[1]), "blob 7");
  EXPECT_EQUAL(text(batch[2]), "blob 30");
  EXPECT_EQUAL(text(batch[3]), "blob 0");
  EXPECT(batch[0].data() != batch[2].data());
  EXPECT(dataset.get_batch({}).empty());
  EXPECT_THROWS(Error, dataset.get_batch({0, 40}), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));

  aztorch::remove(blob_url("batch/00007"));
  EXPECT_THROWS(Error, dataset.get_batch({1, 2, 7, 3}), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND);
    EXPECT_CONTAINS(thrown.what(), "batch/00007");
  });
}

TEST(samples_are_read_into_buffers_of_the_caller) {
  put_all("into/", 3);
  const auto dataset = Dataset::list(container_url(), "into/");
  char first[16] = {}, second[16] = {};
  EXPECT_EQUAL(dataset.get_into(1, first, sizeof first), 6U);
  EXPECT_EQUAL(std::string(first), "blob 1");
  const auto sizes = dataset.get_batch_into({2, 0}, {first, second}, {sizeof first, sizeof second});
  EXPECT_EQUAL(sizes.size(), 2U);
  EXPECT_EQUAL(sizes[1], 6U);
  EXPECT_EQUAL(std::string(first), "blob 2");
  EXPECT_EQUAL(std::string(second), "blob 0");
  EXPECT_THROWS(Error, dataset.get_into(1, first, 3), EXPECT_EQUAL(thrown.status(), AZT_STATUS_BUFFER_TOO_SMALL));
  EXPECT_THROWS(Error, dataset.get_batch_into({1, 2}, {first}, {3}),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(prefetched_samples_are_not_fetched_again) {
  put_all("prefetch/", 20);
  const auto dataset = Dataset::list(container_url(), "prefetch/");
  dataset.prefetch({19, 3, 8});
  EXPECT_EQUAL(text(dataset.get(8)), "blob 8");
  EXPECT_EQUAL(dataset.get_batch({3, 19}).size(), 2U);
  EXPECT_EQUAL(count_requests("GET", "prefetch/000"), 3U);
}

TEST(a_blob_fetches_only_the_bytes_that_are_read) {
  FaultServer server(std::string(std::size_t{100} << 20, 'v'), serve_all());
  const auto dataset = Dataset::from_urls({server.url() + "-0", server.url() + "-1"});
  const Blob blob(dataset, 1);
  const Blob copy = blob;
  EXPECT_EQUAL(blob.url(), server.url() + "-1");
  EXPECT_EQUAL(copy.blob_name(), "blob-1");
  EXPECT_EQUAL(copy.container_name(), "container");
  EXPECT_EQUAL(copy.size(), UINT64_MAX);
  EXPECT_EQUAL(blob.position(), 1U);
  EXPECT_EQUAL(server.gets(), 0);

  char bytes[10];
  BlobReader reader = blob.reader();
  const BlobReader second = copy.reader();
  EXPECT_EQUAL(reader.size(), std::uint64_t{100} << 20);
  EXPECT_EQUAL(reader.read_at(std::uint64_t{50} << 20, bytes, sizeof bytes), 10U);
  EXPECT_EQUAL(second.read_at(0, bytes, sizeof bytes), 10U);
  EXPECT(server.gets() >= 2 && server.gets() <= 4);
  EXPECT(server.bytes_sent() < std::size_t{10} << 20);
  EXPECT_THROWS(Error, Blob(dataset, 2), EXPECT_EQUAL(thrown.status(), AZT_STATUS_OUT_OF_RANGE));
}

TEST(a_stream_ends_and_starts_again_after_reset) {
  const auto names = put_all("stream/", 7);
  auto stream = Stream::list(container_url(), "stream/");
  for (int epoch = 0; epoch < 3; ++epoch) {
    EXPECT(read_all(stream) == names);
    EXPECT(!stream.next() && !stream.next());
    stream.reset();
  }
  EXPECT(read_all(Stream::from_urls(urls_of(names), {1, 3})) == (std::vector<std::string>{names[1], names[4]}));
  EXPECT(read_all(Stream::from_dataset(Dataset::list(container_url(), "stream/"), {2, 3})) ==
         (std::vector<std::string>{names[2], names[5]}));
  EXPECT_THROWS(Error, stream.set_shuffle(3, 1), EXPECT_EQUAL(thrown.status(), AZT_STATUS_UNSUPPORTED));
}

TEST(a_shuffled_stream_resumes_in_the_same_order) {
  const auto names = put_all("shuffled/", 30);
  const auto make = [] {
    auto stream = Stream::list(container_url(), "shuffled/");
    stream.set_shuffle(8, 42);
    return stream;
  };
  const Stream stream = make();
  const auto first = read_all(stream);
  EXPECT(first != names && sorted(first) == names);
  stream.reset();
  std::vector<std::string> second;
  for (int i = 0; i < 12; ++i) second.push_back(stream.next()->blob_name());
  EXPECT_EQUAL(stream.next()->position(), 12U);
  const std::string cursor = stream.cursor(11);
  EXPECT(stream.cursor() != cursor);

  const Stream resumed = make();
  resumed.resume(cursor);
  const auto rest = read_all(resumed);
  second.insert(second.end(), rest.begin(), rest.end());
  EXPECT(sorted(second) == names && second != first);
  EXPECT_THROWS(Error, Stream::list(container_url(), "shuffled/").resume(cursor),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(a_lazy_stream_fetches_only_the_listing) {
  put_all("lazy/", 5);
  auto stream = Stream::list(container_url(), "lazy/");
  stream.set_lazy();
  std::vector<Blob> blobs;
  while (auto sample = stream.next()) {
    EXPECT(sample->data() == nullptr && sample->size() == 0);
    EXPECT_EQUAL(sample->blob_size(), 6U);
    blobs.emplace_back(*std::move(sample));
  }
  EXPECT_EQUAL(blobs.size(), 5U);
  EXPECT_EQUAL(count_requests("GET", "lazy/000"), 0U);
  const std::vector<Blob> copies = blobs;
  blobs.clear();
  EXPECT_EQUAL(copies[3].url(), url_without_query("lazy/00003"));
  EXPECT_EQUAL(copies[3].size(), 6U);
  EXPECT_EQUAL(copies[3].position(), 3U);
  EXPECT_EQUAL(text(copies[3].reader()), "blob 3");
  EXPECT_EQUAL(count_requests("GET", "lazy/000"), 1U);
}

int main(int argc, char** argv) { return check::run_all(argc, argv); }
