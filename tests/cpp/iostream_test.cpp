// BlobReader, BlobWriter, IStream and OStream, on Azurite and on a server that fails. Without LibTorch.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iomanip>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include <aztorch/aztorch.hpp>

#include "check.hpp"
#include "container.hpp"
#include "fault_server.hpp"

using aztorch::BlobReader;
using aztorch::BlobWriter;
using aztorch::Client;
using aztorch::ClientOptions;
using aztorch::Error;
using aztorch::IStream;
using aztorch::OStream;

static_assert(std::is_nothrow_copy_constructible_v<Error>, "an exception's copy must not throw");
static_assert(!std::is_copy_constructible_v<BlobReader> && std::is_nothrow_move_constructible_v<BlobReader>);
static_assert(!std::is_copy_constructible_v<BlobWriter> && std::is_nothrow_move_constructible_v<BlobWriter>);
static_assert(!std::is_copy_constructible_v<Client> && std::is_nothrow_move_constructible_v<Client>);
static_assert(std::is_nothrow_destructible_v<OStream> && std::is_nothrow_destructible_v<IStream>);
// Their stream buffers hold pointers into themselves.
static_assert(!std::is_move_constructible_v<IStream> && !std::is_move_assignable_v<IStream>);
static_assert(!std::is_move_constructible_v<OStream> && !std::is_move_assignable_v<OStream>);

namespace {

void put(const std::string& name, const std::string& bytes) {
  BlobWriter writer(blob_url(name));
  writer.write(bytes.data(), bytes.size());
  writer.close();
}

std::string get(const std::string& name) {
  BlobReader reader(blob_url(name));
  std::string bytes(static_cast<std::size_t>(reader.size()), '\0');
  bytes.resize(reader.read(bytes.data(), bytes.size()));
  return bytes;
}

std::string random_bytes(std::size_t length) {
  std::mt19937_64 random(7);
  std::string bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

Client client_without_retries() { return Client(ClientOptions().set_anonymous().set_max_retries(0)); }

}  // namespace

TEST(a_reader_reads_the_bytes_of_a_writer) {
  BlobWriter writer(absent_blob_url("rw"));
  EXPECT_EQUAL(writer.etag(), "");
  writer.write("hello ", 6);
  writer.flush();
  EXPECT(!aztorch::exists(blob_url("rw")));
  writer.write("world", 5);
  EXPECT_EQUAL(writer.tell(), 11U);
  writer.close();

  BlobReader reader(blob_url("rw"));
  EXPECT_EQUAL(reader.size(), 11U);
  EXPECT_EQUAL(reader.etag(), writer.etag());
  EXPECT(!check::contains(reader.url(), "?"));
  char bytes[32];
  EXPECT_EQUAL(reader.read_at(6, bytes, sizeof bytes), 5U);
  EXPECT_EQUAL(reader.tell(), 0U);
  EXPECT_EQUAL(reader.seek(-5, aztorch::Whence::end), 6U);
  EXPECT_EQUAL(std::string(bytes, reader.read(bytes, 3)), "wor");
  EXPECT_EQUAL(reader.seek(1, aztorch::Whence::current), 10U);
  EXPECT_EQUAL(std::string(bytes, reader.read(bytes, 3)), "d");
  EXPECT(!BlobReader::open_if_changed(blob_url("rw"), reader.etag()));
  put("rw", "other");
  EXPECT(BlobReader::open_if_changed(blob_url("rw"), reader.etag()).has_value());
  aztorch::remove(blob_url("rw"));
  EXPECT(!aztorch::exists(blob_url("rw")));
}

TEST(create_mode_and_if_match_do_not_overwrite) {
  put("mode", "old");
  EXPECT_THROWS(Error, {
    BlobWriter writer(blob_url("mode"), {}, AZT_BLOB_MODE_CREATE);
    writer.write("new", 3);
    writer.close();
  }, EXPECT_EQUAL(thrown.status(), AZT_STATUS_ALREADY_EXISTS));
  OStream out(blob_url("mode"));
  out.writer().set_if_match(BlobReader(blob_url("mode")).etag());
  put("mode", "in between");
  out << "from an evicted job";
  EXPECT_THROWS(Error, out.close(), EXPECT_EQUAL(thrown.status(), AZT_STATUS_MODIFIED));
  EXPECT_EQUAL(get("mode"), "in between");
}

TEST(open_in_encodes_the_blob_name) {
  BlobWriter writer = BlobWriter::open_in(container_url(), "a name/with + and %.txt");
  writer.write("x", 1);
  writer.close();
  BlobReader reader = BlobReader::open_in(container_url(), "a name/with + and %.txt");
  EXPECT_EQUAL(reader.size(), 1U);
}

TEST(errors_have_status_code_and_request_id) {
  EXPECT_THROWS(Error, BlobReader(blob_url("no-such-blob")), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND);
    EXPECT_EQUAL(thrown.http_status(), 404);
    EXPECT_EQUAL(thrown.service_code(), "BlobNotFound");
    EXPECT(!thrown.request_id().empty());
    EXPECT(!thrown.retryable());
    EXPECT_CONTAINS(thrown.what(), "no-such-blob");
    EXPECT(!check::contains(thrown.what(), "sig="));
    const Error copy = thrown;
    EXPECT_EQUAL(copy.service_code(), thrown.service_code());
  });
  EXPECT_THROWS(Error, BlobReader(std::string("http://127.0.0.1/a/b\0c", 21)), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT);
    EXPECT_CONTAINS(thrown.what(), "NUL");
  });
  EXPECT_THROWS(Error, ClientOptions().set_max_concurrency(0),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
  EXPECT_THROWS(Error, Client().with_timeout(std::chrono::milliseconds(-1)),
                EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(a_client_may_be_destroyed_before_its_blobs) {
  put("outlives", "still here");
  auto client = std::make_unique<Client>(Client().with_timeout(std::chrono::minutes(1)));
  IStream in(blob_url("outlives"), *client);
  client.reset();
  std::string line;
  EXPECT(std::getline(in, line) && line == "still here");
}

TEST(an_istream_reads_lines_and_formatted_values) {
  put("text", "first line\n42 3.5 word\n\nlast, without an end");
  IStream in(blob_url("text"));
  std::string line;
  EXPECT(std::getline(in, line) && line == "first line");
  int integer = 0;
  double real = 0;
  std::string word;
  EXPECT(in >> integer >> real >> word);
  EXPECT_EQUAL(integer, 42);
  EXPECT_EQUAL(real, 3.5);
  EXPECT_EQUAL(word, "word");
  in.ignore();
  EXPECT(std::getline(in, line) && line.empty());
  EXPECT(std::getline(in, line) && line == "last, without an end");
  EXPECT(!std::getline(in, line) && in.eof());
  in.clear();
  in.seekg(0);
  EXPECT(std::getline(in, line) && line == "first line");
  in.close();
}

TEST(an_istream_seeks_and_puts_back) {
  const std::string bytes = random_bytes(100'000);
  put("seek", bytes);
  IStream in(blob_url("seek"));
  EXPECT_EQUAL(in.tellg(), 0);
  in.seekg(0, std::ios::end);
  EXPECT_EQUAL(in.tellg(), 100'000);
  EXPECT_EQUAL(in.get(), std::char_traits<char>::eof());
  in.clear();
  in.seekg(-10, std::ios::cur);
  EXPECT_EQUAL(char(in.get()), bytes[99'990]);
  in.seekg(50'000);
  in.unget();
  EXPECT_EQUAL(in.tellg(), 49'999);
  EXPECT_EQUAL(char(in.peek()), bytes[49'999]);
  EXPECT_EQUAL(char(in.get()), bytes[49'999]);
  in.putback(bytes[49'999]);
  EXPECT_EQUAL(char(in.get()), bytes[49'999]);
  EXPECT_EQUAL(in.tellg(), 50'000);
  in.seekg(-1, std::ios::beg);
  EXPECT(in.fail() && !in.bad());
  in.clear();
  EXPECT_EQUAL(in.tellg(), 50'000);
  in.seekg(200'000);
  EXPECT(in.good());
  EXPECT_EQUAL(in.get(), std::char_traits<char>::eof());
  in.clear();
  in.seekg(99'000);
  EXPECT_EQUAL(in.rdbuf()->in_avail(), 1000);
}

TEST(random_reads_and_seeks_agree_with_a_string_stream) {
  const std::string bytes = random_bytes(3'000'000);
  put("random", bytes);
  IStream in(blob_url("random"));
  std::istringstream model(bytes);
  std::mt19937 random(11);
  std::string left;
  std::string right;
  for (int round = 0; round < 3000; ++round) {
    const auto position = static_cast<std::streamoff>(random() % bytes.size());
    const std::size_t length = random() % (round % 50 == 0 ? 2'000'000 : 20'000);
    switch (random() % 5) {
      case 0: in.seekg(position); model.seekg(position); break;
      case 1: EXPECT_EQUAL(in.get(), model.get()); break;
      case 2: std::getline(in, left); std::getline(model, right); EXPECT(left == right); break;
      case 3: in.unget(); model.unget(); break;
      default:
        left.assign(length, '\0');
        right.assign(length, '\0');
        in.read(left.data(), static_cast<std::streamsize>(length));
        model.read(right.data(), static_cast<std::streamsize>(length));
        EXPECT_EQUAL(in.gcount(), model.gcount());
        EXPECT(left == right);
    }
    EXPECT_EQUAL(in.rdstate(), model.rdstate());
    in.clear();
    model.clear();
    EXPECT_EQUAL(in.tellg(), model.tellg());
    if (check::failures() > 0) return;
  }
}

TEST(an_ostream_writes_the_same_bytes_as_a_string_stream) {
  const std::string bulk = random_bytes(5'000'000);
  std::ostringstream model;
  OStream out(absent_blob_url("written"));
  for (std::ostream* stream : {static_cast<std::ostream*>(&out), static_cast<std::ostream*>(&model)}) {
    *stream << "accuracy " << std::setprecision(3) << 0.91234 << std::endl;
    stream->write(bulk.data(), static_cast<std::streamsize>(bulk.size()));
    for (int i = 0; i < 20'000; ++i) *stream << i << ',';
    stream->put('.');
    stream->write(bulk.data(), 16'384);
  }
  EXPECT_EQUAL(out.tellp(), model.tellp());
  EXPECT(!out.failed());
  EXPECT(!aztorch::exists(blob_url("written")));
  out.close();
  EXPECT(get("written") == model.str());
  EXPECT_EQUAL(out.writer().etag(), BlobReader(blob_url("written")).etag());
}

TEST(without_close_the_previous_blob_stays) {
  put("kept", "old");
  { OStream out(blob_url("kept")); out << "forgotten" << std::flush; }
  EXPECT_EQUAL(get("kept"), "old");
  try {
    OStream out(blob_url("kept"));
    out << "half" << std::flush;
    throw 1;
  } catch (int) {
  }
  EXPECT_EQUAL(get("kept"), "old");
  { OStream out(blob_url("kept")); out.close(); }
  EXPECT_EQUAL(get("kept"), "");
}

TEST(a_failed_write_is_thrown_by_close_only) {
  FaultServer server("", [](const std::string&, int) { return Action::refuse; });
  const Client client = client_without_retries();
  OStream out(server.url(), client);
  out.exceptions(std::ios::badbit | std::ios::failbit);
  const std::string bytes(1 << 20, 'x');
  for (int i = 0; i < 100 && !out.failed(); ++i) {
    out << "small " << i;
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  out << "more" << std::endl;
  EXPECT(out.good());
  EXPECT_EQUAL(out.tellp() > std::streamoff(0), true);
  for (int again = 0; again < 2; ++again) {
    EXPECT_THROWS(Error, out.close(), {
      EXPECT_EQUAL(thrown.status(), AZT_STATUS_PERMISSION_DENIED);
      EXPECT_EQUAL(thrown.service_code(), "AuthorizationFailure");
    });
  }
}

TEST(a_write_after_close_is_thrown_by_the_next_close) {
  OStream out(blob_url("closed"));
  out << "all";
  out.close();
  out << "too late" << std::flush;
  EXPECT(out.failed());
  EXPECT_THROWS(Error, out.close(), EXPECT_EQUAL(thrown.status(), AZT_STATUS_UNSUPPORTED));
  EXPECT_EQUAL(get("closed"), "all");
}

TEST(a_failed_read_throws_the_error_of_the_request) {
  const std::string bytes = random_bytes(std::size_t{32} << 20);
  const auto plan = [](const std::string&, int number) { return number == 0 ? Action::serve : Action::refuse; };
  const Client client = client_without_retries();
  const auto check = [](const Error& error) {
    EXPECT_EQUAL(error.status(), AZT_STATUS_PERMISSION_DENIED);
    EXPECT_EQUAL(error.request_id(), "fault-server");
  };
  std::string all(bytes.size(), '\0');
  {
    FaultServer server(bytes, plan);
    IStream in(server.url(), client);
    EXPECT_THROWS(Error, in.read(all.data(), static_cast<std::streamsize>(all.size())), check(thrown));
    EXPECT(in.bad());
  }
  {
    FaultServer server(bytes, plan);
    IStream in(server.url(), client);
    in.seekg(-20, std::ios::end);
    EXPECT_THROWS(Error, in >> all, check(thrown));
  }
  {
    FaultServer server(bytes, plan);
    IStream in(server.url(), client);
    in.exceptions(std::ios::goodbit);
    in.seekg(-20, std::ios::end);
    std::getline(in, all);
    EXPECT(in.bad());
  }
}

TEST(reading_after_close_is_an_error) {
  put("closed", "x");
  IStream in(blob_url("closed"));
  in.close();
  EXPECT_THROWS(Error, in.get(), EXPECT_EQUAL(thrown.status(), AZT_STATUS_UNSUPPORTED));
}

int main(int argc, char** argv) { return check::run_all(argc, argv); }
