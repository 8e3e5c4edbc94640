// ClientOptions, token callbacks, the log, statistics, progress and cancellation. Part of iostream_test.
#include <aztorch/aztorch.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "container.hpp"

namespace {

using aztorch::Client;
using aztorch::ClientOptions;
using aztorch::Error;

constexpr const char* kSecureUrl = "https://127.0.0.1:9/account/container/blob";

TEST(setters_accept_valid_values_and_refuse_bad_ones) {
  ClientOptions options;
  options.set_default_credential()
      .set_client_secret("tenant", "client", "secret")
      .set_managed_identity()
      .set_managed_identity("client")
      .set_workload_identity()
      .set_azure_cli()
      .set_proxy("http://proxy:8080")
      .set_user_agent("trainer/1.2");
  EXPECT_THROWS(Error, options.set_ca_file("/no/such/file"), EXPECT_EQUAL(thrown.status(), AZT_STATUS_LOCAL_IO));
  EXPECT_THROWS(Error, options.set_proxy("proxy"), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
  EXPECT_THROWS(Error, options.set_token_callback({}), EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}

TEST(a_token_callback_may_throw_and_is_destroyed_with_its_last_user) {
  const auto alive = std::make_shared<int>();
  {
    ClientOptions options;
    options.set_token_callback([alive](const std::string& scope, const std::string& tenant) -> aztorch::Token {
      EXPECT_EQUAL(scope, "https://storage.azure.com/.default");
      EXPECT_EQUAL(tenant, "");
      throw std::runtime_error("the vault is shut");
    });
    const Client client(options);
    EXPECT_THROWS(Error, aztorch::exists(kSecureUrl, client), {
      EXPECT_EQUAL(thrown.status(), AZT_STATUS_UNAUTHENTICATED);
      EXPECT_CONTAINS(std::string(thrown.what()), "the vault is shut");
    });
    options.set_max_retries(0).set_token_callback([](const std::string&, const std::string&) {
      return aztorch::Token{"planted", std::chrono::system_clock::now() + std::chrono::hours(1)};
    });
    EXPECT_THROWS(Error, aztorch::exists(kSecureUrl, Client(options)),
                  EXPECT_EQUAL(thrown.status(), AZT_STATUS_UNAVAILABLE));
  }
  EXPECT_EQUAL(alive.use_count(), 1L);
}

TEST(log_statistics_and_progress_count_the_same_requests) {
  const Client client{ClientOptions()};
  const std::string url = blob_url("settings");
  // The client's first requests find out which checksums the service supports.
  aztorch::OStream first(url, client);
  first << "bytes";
  first.close();
  aztorch::IStream(url, client).get();
  const azt_stats before = client.stats();
  std::mutex mutex;
  std::vector<std::string> lines;
  aztorch::set_log_callback(AZT_LOG_LEVEL_DEBUG,
                            [&](azt_log_level, std::string_view target, std::string_view message) {
                              const std::lock_guard<std::mutex> lock(mutex);
                              if (target == "aztorch::http") lines.emplace_back(message);
                            });
  std::uint64_t done = 0, total = 0;
  const auto progress = [&](std::uint64_t now, std::uint64_t of) {
    done = now;
    total = of;
  };
  aztorch::BlobWriter writer(url, client);
  writer.set_progress(progress);
  writer.write("0123456789", 10);
  writer.close();
  EXPECT_EQUAL(done, 10U);
  EXPECT_EQUAL(total, 10U);
  aztorch::BlobReader reader(url, client);
  reader.set_progress(progress);
  char digits[4];
  reader.read(digits, sizeof digits);
  EXPECT_EQUAL(done, 4U);
  reader.set_progress({});
  reader.read(digits, sizeof digits);
  EXPECT_EQUAL(done, 4U);
  const azt_stats stats = client.stats();
  EXPECT_EQUAL(stats.requests - before.requests, 2U);
  EXPECT_EQUAL(stats.bytes_sent - before.bytes_sent, 10U);
  EXPECT_EQUAL(stats.bytes_received - before.bytes_received, 10U);
  aztorch::set_log_callback(AZT_LOG_LEVEL_OFF, {});
  EXPECT_EQUAL(lines.size(), 2U);
  EXPECT_CONTAINS(lines[0], "PUT ");
  EXPECT_CONTAINS(lines[1], "GET ");
}

TEST(no_exception_log_line_or_url_contains_a_secret) {
  std::mutex mutex;
  std::vector<std::string> texts;  // of all exceptions, log lines and URLs
  const auto record = [&](std::string text) {
    const std::lock_guard<std::mutex> lock(mutex);
    texts.push_back(std::move(text));
  };
  aztorch::set_log_callback(AZT_LOG_LEVEL_TRACE, [&](azt_log_level, std::string_view, std::string_view message) {
    record(std::string(message));
  });
  const auto fails = [&](const auto& call) {
    EXPECT_THROWS(Error, call(), record(thrown.what()));
  };
  const std::string key = "cGxhbnRlZA==";  // "planted" in base64
  std::vector<ClientOptions> all(5);
  all[0].set_account_key("account", key);
  all[1].set_sas_token("sv=1&sig=planted");
  all[2].set_connection_string("AccountName=account;AccountKey=" + key);
  all[3].set_client_secret("tenant", "client", "planted");
  all[4].set_token_callback([](const std::string&, const std::string&) -> aztorch::Token {
    throw std::runtime_error("the answer was: Bearer planted");
  });
  for (ClientOptions& options : all) {
    options.set_max_retries(0).set_proxy("http://user:planted@127.0.0.1:9");
    const Client client(options);
    for (const std::string& url : {std::string(kSecureUrl), std::string(kSecureUrl) + "?sv=1&sig=planted%2F"}) {
      fails([&] { aztorch::exists(url, client); });
      fails([&] { aztorch::BlobReader(url, client); });
      fails([&] { aztorch::remove(url, client); });
      aztorch::OStream out(url, client);
      record(out.writer().url());
      out << "bytes";
      fails([&] { out.close(); });
    }
  }
  ClientOptions options;
  fails([&] { options.set_connection_string("AccountName=a;AccountKey=planted!"); });
  fails([&] { options.set_account_key("account", "planted!"); });
  fails([&] { options.set_proxy("https://user:planted@proxy:1"); });
  aztorch::set_log_callback(AZT_LOG_LEVEL_OFF, {});
  EXPECT_EQUAL(texts.size() > 5 * 2 * 5, true);
  for (const std::string& text : texts) {
    if (text.find("planted") != std::string::npos || text.find(key) != std::string::npos) {
      throw std::runtime_error("a text contains a secret: " + text);
    }
  }
}

TEST(cancelled_objects_throw_and_others_keep_working) {
  const std::string url = blob_url("cancelled");
  ClientOptions options;
  options.set_checksum(true).set_stall_timeout(std::chrono::seconds(20));
  const Client client(options), derived = client.with_timeout(std::chrono::seconds(60));
  aztorch::BlobWriter writer(url, client);
  writer.write("bytes", 5);
  writer.close();
  const auto cancelled = [](const auto& call) {
    EXPECT_THROWS(Error, call(), EXPECT_EQUAL(thrown.status(), AZT_STATUS_CANCELLED));
  };
  char byte = 0;
  aztorch::BlobReader reader(url, client);
  reader.cancel();
  cancelled([&] { reader.read(&byte, 1); });
  const aztorch::Dataset dataset = aztorch::Dataset::from_urls({url}, client);
  const aztorch::Stream stream = aztorch::Stream::from_dataset(dataset);
  EXPECT_EQUAL(dataset.get(0).size(), std::size_t{5});
  dataset.cancel();
  cancelled([&] { dataset.get(0); });
  cancelled([&] { stream.next(); });
  aztorch::BlobWriter other(url, derived);
  other.write("other", 5);
  derived.cancel();
  cancelled([&] { other.close(); });
  aztorch::BlobReader again(url, client);
  EXPECT_EQUAL(again.size(), std::uint64_t{5});
  client.cancel();
  cancelled([&] { again.read(&byte, 1); });
  aztorch::Client().cancel();
  EXPECT_EQUAL(aztorch::exists(url), true);
}

}  // namespace
