// URLs in the container of the tests, AZTORCH_TEST_CONTAINER_URL, which has a SAS.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#include <aztorch/aztorch.hpp>

inline std::string container_url() {
  const char* url = std::getenv("AZTORCH_TEST_CONTAINER_URL");
  if (url == nullptr || *url == '\0') throw std::runtime_error("AZTORCH_TEST_CONTAINER_URL is not set");
  return url;
}

// The URL of a blob. `name` is not percent-encoded: the tests use only names that need no encoding.
inline std::string blob_url(const std::string& name) {
  const std::string container = container_url();
  const auto query = container.find('?');
  if (query == std::string::npos) return container + "/" + name;
  return container.substr(0, query) + "/" + name + container.substr(query);
}

// The URL of a blob that does not exist: one left by an earlier run is deleted.
inline std::string absent_blob_url(const std::string& name) {
  const std::string url = blob_url(name);
  if (aztorch::exists(url)) aztorch::remove(url);
  return url;
}
