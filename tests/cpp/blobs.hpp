// Many small blobs for the tests of datasets, and the requests in the server's log.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <aztorch/aztorch.hpp>

#include "container.hpp"

inline void put(const std::string& name, const std::string& bytes) {
  aztorch::BlobWriter writer(blob_url(name));
  writer.write(bytes.data(), bytes.size());
  writer.close();
}

// Writes `count` blobs, on 8 threads, and returns their names: the prefix and five digits. `make` returns the bytes of
// blob number i.
template <typename Make>
std::vector<std::string> put_all(const std::string& prefix, std::size_t count, Make make) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) {
    std::string number = std::to_string(i);
    names.push_back(prefix + std::string(5 - std::min<std::size_t>(5, number.size()), '0') + number);
  }
  std::atomic<std::size_t> next{0};
  std::exception_ptr error;
  std::atomic<bool> failed{false};
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < count && !failed; i = next++) put(names[i], make(i));
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
  if (failed) std::rethrow_exception(error);
  return names;
}

// Writes `count` blobs with the content "blob 0", "blob 1", ….
inline std::vector<std::string> put_all(const std::string& prefix, std::size_t count) {
  return put_all(prefix, count, [](std::size_t i) { return "blob " + std::to_string(i); });
}

inline std::vector<std::string> urls_of(const std::vector<std::string>& names) {
  std::vector<std::string> urls;
  for (const auto& name : names) urls.push_back(blob_url(name));
  return urls;
}

// The number of requests with this method and with `part` in their URL that the server has answered.
inline std::size_t count_requests(const std::string& method, const std::string& part) {
  const char* log = std::getenv("AZTORCH_TEST_LOG");
  if (log == nullptr) throw std::runtime_error("AZTORCH_TEST_LOG is not set");
  static int calls = 0;
  // The server logs a request after it has answered it. So send one more request, and wait for its log line.
  const std::string last = "count-" + std::to_string(++calls) + "-" + std::to_string(::getpid());
  aztorch::exists(blob_url(last));
  for (;;) {
    std::ifstream lines(log);
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line);) {
      if (line.find(last) != std::string::npos) return count;
      if (line.find("\"" + method + " ") != std::string::npos && line.find(part) != std::string::npos) ++count;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}
