// A blob server for tests of failures: it runs on threads of the test program, has the same blob under every name, and
// fails the requests that the test chooses.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// What the server does with a request: answers it, answers 403, or resets the connection.
enum class Action { serve, refuse, reset };

// Chooses the action for a request. `number` counts the requests with this method, from 0.
using Plan = std::function<Action(const std::string& method, int number)>;

inline Plan serve_all() {
  return [](const std::string&, int) { return Action::serve; };
}

// Listens on a free port of 127.0.0.1 from the constructor to the destructor.
class FaultServer {
 public:
  FaultServer(std::string blob, Plan plan) : blob_(std::move(blob)), plan_(std::move(plan)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (listener_ < 0 || ::bind(listener_, generic, length) != 0 || ::listen(listener_, 64) != 0 ||
        ::getsockname(listener_, generic, &length) != 0) {
      throw std::runtime_error("the fault server cannot listen");
    }
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }

  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;

  ~FaultServer() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (const int connection : connections_) ::shutdown(connection, SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/account/container/blob"; }

  // The numbers of requests so far.
  int gets() const { return gets_; }
  int puts() const { return puts_; }

  // The number of bytes of all responses so far, heads included.
  std::size_t bytes_sent() const { return bytes_sent_; }

 private:
  void accept_all() {
    for (;;) {
      const int connection = ::accept(listener_, nullptr, nullptr);
      if (connection < 0) return;
      const std::lock_guard<std::mutex> lock(mutex_);
      connections_.insert(connection);
      threads_.emplace_back([this, connection] { serve(connection); });
    }
  }

  void serve(int connection) {
    std::string input;
    while (answer_one(connection, input)) {
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    connections_.erase(connection);
    ::close(connection);
  }

  static bool receive(int connection, std::string& input) {
    char chunk[65536];
    const auto count = ::recv(connection, chunk, sizeof chunk, 0);
    if (count <= 0) return false;
    input.append(chunk, static_cast<std::size_t>(count));
    return true;
  }

  // Handles one request. `input` holds the bytes received and not processed. False when the connection is to be closed.
  bool answer_one(int connection, std::string& input) {
    std::size_t end = 0;
    while ((end = input.find("\r\n\r\n")) == std::string::npos) {
      if (!receive(connection, input)) return false;
    }
    std::string head = input.substr(0, end + 2);
    input.erase(0, end + 4);
    const std::string method = head.substr(0, head.find(' '));
    for (char& character : head) character = character >= 'A' && character <= 'Z' ? char(character + 32) : character;

    const Action action = plan_(method, method == "PUT" ? puts_++ : gets_++);
    if (action == Action::reset) {
      const linger no_wait{1, 0};  // makes close() send a reset
      ::setsockopt(connection, SOL_SOCKET, SO_LINGER, &no_wait, sizeof no_wait);
      return false;
    }
    std::size_t body = std::strtoull(value_of(head, "content-length: ").c_str(), nullptr, 10);
    while (body > 0) {
      if (input.empty() && !receive(connection, input)) return false;
      const std::size_t part = std::min(body, input.size());
      input.erase(0, part);
      body -= part;
    }
    if (action == Action::refuse) return send_all(connection, refusal());
    if (method == "PUT") return send_all(connection, created());
    return send_range(connection, head);
  }

  // The value of a header in a lower-case head; empty when it is missing.
  static std::string value_of(const std::string& head, const std::string& name) {
    const auto start = head.find("\n" + name);
    if (start == std::string::npos) return "";
    const auto value = start + 1 + name.size();
    return head.substr(value, head.find('\r', value) - value);
  }

  static std::string refusal() {
    return "HTTP/1.1 403 Forbidden\r\nx-ms-error-code: AuthorizationFailure\r\nx-ms-request-id: fault-server\r\n"
           "content-length: 0\r\n\r\n";
  }

  static std::string created() { return "HTTP/1.1 201 Created\r\netag: \"1\"\r\ncontent-length: 0\r\n\r\n"; }

  bool send_range(int connection, const std::string& head) {
    std::string range = value_of(head, "x-ms-range: bytes=");
    if (range.empty()) range = value_of(head, "range: bytes=");
    const std::size_t first = std::strtoull(range.c_str(), nullptr, 10);
    const auto dash = range.find('-');
    std::size_t last = blob_.size() - 1;
    if (dash != std::string::npos && dash + 1 < range.size()) {
      last = std::min<std::size_t>(last, std::strtoull(range.c_str() + dash + 1, nullptr, 10));
    }
    return send_all(connection, "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\nx-ms-blob-type: BlockBlob\r\n"
                          "content-range: bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                              std::to_string(blob_.size()) + "\r\ncontent-length: " +
                              std::to_string(last - first + 1) + "\r\n\r\n") &&
           send_all(connection, blob_.data() + first, last - first + 1);
  }

  bool send_all(int connection, const std::string& text) { return send_all(connection, text.data(), text.size()); }

  bool send_all(int connection, const char* data, std::size_t length) {
    while (length > 0) {
      const auto sent = ::send(connection, data, length, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      data += sent;
      length -= static_cast<std::size_t>(sent);
      bytes_sent_ += static_cast<std::size_t>(sent);
    }
    return true;
  }

  std::string blob_;
  Plan plan_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> gets_{0};
  std::atomic<int> puts_{0};
  std::atomic<std::size_t> bytes_sent_{0};
  std::thread acceptor_;
  std::mutex mutex_;
  std::set<int> connections_;
  std::vector<std::thread> threads_;
};
