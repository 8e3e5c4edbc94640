// A blob server that has the same blob under every name and goes wrong where a test wants it to, on a thread of its own
// and a free port.
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

enum class Answer { serve, refuse, reset };

// What to do with a request; `number` counts from 0 the requests with this method.
using Plan = std::function<Answer(const std::string& method, int number)>;

inline Plan serve_all() {
  return [](const std::string&, int) { return Answer::serve; };
}

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
      for (const int peer : open_) ::shutdown(peer, SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/account/container/blob"; }

  int gets() const { return gets_; }
  int puts() const { return puts_; }
  // Heads of answers included.
  std::size_t bytes_sent() const { return bytes_sent_; }

 private:
  void accept_all() {
    for (;;) {
      const int peer = ::accept(listener_, nullptr, nullptr);
      if (peer < 0) return;
      const std::lock_guard<std::mutex> lock(mutex_);
      open_.insert(peer);
      threads_.emplace_back([this, peer] { serve(peer); });
    }
  }

  void serve(int peer) {
    std::string input;
    while (answer_one(peer, input)) {
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.erase(peer);
    ::close(peer);
  }

  static bool receive(int peer, std::string& input) {
    char chunk[65536];
    const auto count = ::recv(peer, chunk, sizeof chunk, 0);
    if (count <= 0) return false;
    input.append(chunk, static_cast<std::size_t>(count));
    return true;
  }

  bool answer_one(int peer, std::string& input) {
    std::size_t end = 0;
    while ((end = input.find("\r\n\r\n")) == std::string::npos) {
      if (!receive(peer, input)) return false;
    }
    std::string head = input.substr(0, end + 2);
    input.erase(0, end + 4);
    const std::string method = head.substr(0, head.find(' '));
    for (char& character : head) character = character >= 'A' && character <= 'Z' ? char(character + 32) : character;

    const Answer answer = plan_(method, method == "PUT" ? puts_++ : gets_++);
    if (answer == Answer::reset) {
      const linger now{1, 0};  // makes close() send a reset
      ::setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
      return false;
    }
    std::size_t body = std::strtoull(value_of(head, "content-length: ").c_str(), nullptr, 10);
    while (body > 0) {
      if (input.empty() && !receive(peer, input)) return false;
      const std::size_t part = std::min(body, input.size());
      input.erase(0, part);
      body -= part;
    }
    if (answer == Answer::refuse) return send_all(peer, refusal());
    if (method == "PUT") return send_all(peer, "HTTP/1.1 201 Created\r\netag: \"1\"\r\ncontent-length: 0\r\n\r\n");
    return send_range(peer, head);
  }

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

  bool send_range(int peer, const std::string& head) {
    std::string range = value_of(head, "x-ms-range: bytes=");
    if (range.empty()) range = value_of(head, "range: bytes=");
    const std::size_t first = std::strtoull(range.c_str(), nullptr, 10);
    const auto dash = range.find('-');
    std::size_t last = blob_.size() - 1;
    if (dash != std::string::npos && dash + 1 < range.size()) {
      last = std::min<std::size_t>(last, std::strtoull(range.c_str() + dash + 1, nullptr, 10));
    }
    return send_all(peer, "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\nx-ms-blob-type: BlockBlob\r\n"
                          "content-range: bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                              std::to_string(blob_.size()) + "\r\ncontent-length: " +
                              std::to_string(last - first + 1) + "\r\n\r\n") &&
           send_all(peer, blob_.data() + first, last - first + 1);
  }

  bool send_all(int peer, const std::string& text) { return send_all(peer, text.data(), text.size()); }

  bool send_all(int peer, const char* data, std::size_t length) {
    while (length > 0) {
      const auto sent = ::send(peer, data, length, MSG_NOSIGNAL);
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
  std::set<int> open_;
  std::vector<std::thread> threads_;
};
