// Parses Python pickles, protocols 2 to 5. The input is untrusted: nothing in it is ever executed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aztorch::detail {

/// The pickle is damaged, or not a pickle.
class PickleError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The pickle is well-formed but needs something that the caller does not allow.
class UnsupportedPickle : public PickleError {
 public:
  using PickleError::PickleError;
};

/// A parsed pickle: a graph of nodes. A call is stored as a node for the caller to interpret. A global that the caller
/// does not allow is an error that names it. Every length, reference and count is checked.
class Pickle {
 public:
  /// Nodes refer to each other by index. So cycles do not leak, and deep nesting does not overflow the stack when the
  /// graph is freed.
  using Index = std::uint32_t;

  /// The kind of a node, and which of its members hold the value.
  enum class Kind : std::uint8_t {
    none,
    boolean,     // integer
    integer,     // integer
    real,        // real
    opaque,      // an integer beyond 64 bits or a byte string
    text,        // text
    tuple,       // items
    list,        // items
    dict,        // items: key, value, key, value …
    set,         // items
    global,      // text, and the module in `module`
    call,        // items: the global, and a tuple of the arguments
    persistent,  // items: the id
  };

  /// The index that refers to no node.
  static constexpr Index kNoNode = ~Index{0};

  struct Node {
    Kind kind;
    Index state;  // of a dict or call: the argument of Python's __setstate__, or kNoNode
    union {
      std::int64_t integer;
      double real;
    };
    std::string_view text;
    std::string_view module;
    std::vector<Index> items;
  };

  /// Whether a pickle may refer to the global `name` of the Python module `module`.
  using IsAllowed = bool (*)(std::string_view module, std::string_view name);

  /// Parses `bytes`, which must outlive the result: its texts point into them. Throws PickleError for damage, and
  /// UnsupportedPickle for a global that is not allowed and for opcodes that no state_dict needs.
  Pickle(std::string_view bytes, IsAllowed is_allowed) : bytes_(bytes), is_allowed_(is_allowed) {
    add(Kind::none);  // index 0
    root_ = execute();
    stack_.clear();
    memo_.clear();
  }

  /// The node of the object that the pickle holds.
  Index root() const noexcept { return root_; }

  const Node& operator[](Index index) const { return nodes_.at(index); }

  /// Whether the node is the global `name` of the Python module `module`.
  bool is_global(Index index, std::string_view module, std::string_view name) const {
    const Node& node = nodes_.at(index);
    return node.kind == Kind::global && node.module == module && node.text == name;
  }

  /// `text` for a message: without control characters, which names in a file may contain, and cut to 200 bytes.
  static std::string printable(std::string_view text) {
    constexpr std::size_t kMaxLength = 200;
    std::string result;
    for (const char character : text.substr(0, kMaxLength)) {
      const auto code = static_cast<unsigned char>(character);
      result += code < 0x20 || code == 0x7f ? '?' : character;
    }
    if (text.size() > kMaxLength) result += "…";
    return result;
  }

 private:
  // Enough for 200,000 tensors. It bounds the memory to about 300 MB.
  static constexpr std::size_t kMaxNodes = std::size_t{1} << 22;

  [[noreturn]] static void fail(const std::string& what) { throw PickleError("damaged pickle: " + what); }

  // ---- input ----

  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) fail("it ends in the middle of a value");
    const auto part = bytes_.substr(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return part;
  }

  std::uint64_t take_unsigned(std::size_t width) {
    const auto part = take(width);
    std::uint64_t value = 0;
    for (std::size_t i = width; i-- > 0;) value = value << 8 | static_cast<unsigned char>(part[i]);
    return value;
  }

  std::string_view take_line() {
    const auto end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) fail("a line without an end");
    const auto line = take(end - position_);
    take(1);
    return line;
  }

  double take_double() {
    const auto part = take(8);
    std::uint64_t bits = 0;
    for (const char byte : part) bits = bits << 8 | static_cast<unsigned char>(byte);
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  // ---- nodes and the stack ----

  Index add(Kind kind) {
    if (nodes_.size() >= kMaxNodes) fail("it has more than " + std::to_string(kMaxNodes) + " values");
    nodes_.push_back(Node{kind, kNoNode, {0}, {}, {}, {}});
    return static_cast<Index>(nodes_.size() - 1);
  }

  void push(Index index) { stack_.push_back(index); }

  void push_empty(Kind kind) { push(add(kind)); }

  void push_integer(std::int64_t value, Kind kind = Kind::integer) {
    const Index index = add(kind);
    nodes_[index].integer = value;
    push(index);
  }

  void push_text(std::uint64_t length) {
    const auto text = take(length);
    const Index index = add(Kind::text);
    nodes_[index].text = text;
    push(index);
  }

  void push_opaque(std::uint64_t length) {
    take(length);
    push_empty(Kind::opaque);
  }

  /// Values below the last mark cannot be popped.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  Index top() const {
    if (stack_.size() <= floor()) fail("a value is missing");
    return stack_.back();
  }

  Index pop() {
    const Index index = top();
    stack_.pop_back();
    return index;
  }

  std::vector<Index> pop_many(std::size_t count) {
    if (stack_.size() - floor() < count) fail("a value is missing");
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<Index> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    return items;
  }

  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) fail("a mark is missing");
    auto items = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  void push_items(Kind kind, std::vector<Index> items) {
    const Index index = add(kind);
    nodes_[index].items = std::move(items);
    push(index);
  }

  void append_items(Kind kind, const std::vector<Index>& items) {
    Node& target = nodes_[top()];
    if (target.kind != kind) fail("it adds items to something that holds none of that sort");
    if (kind == Kind::dict && items.size() % 2 != 0) fail("a key without a value");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  // ---- globals and calls ----

  void push_global(std::string_view module, std::string_view name) {
    if (!is_allowed_(module, name)) {
      throw UnsupportedPickle("it names " + printable(module) + "." + printable(name) +
                          ", which is not part of a state_dict; nothing in it was run");
    }
    const Index index = add(Kind::global);
    nodes_[index].module = module;
    nodes_[index].text = name;
    push(index);
  }

  void push_stack_global() {
    const Index name = pop();
    const Index module = pop();
    if (nodes_[name].kind != Kind::text || nodes_[module].kind != Kind::text) fail("a global without a name");
    push_global(nodes_[module].text, nodes_[name].text);
  }

  void reduce() {
    const Index arguments = pop();
    const Index callable = pop();
    if (nodes_[callable].kind != Kind::global) fail("it calls something that is not a global");
    if (nodes_[arguments].kind != Kind::tuple) fail("a call without arguments");
    if (is_global(callable, "collections", "OrderedDict")) {
      if (!nodes_[arguments].items.empty()) fail("an OrderedDict made from arguments");
      push_empty(Kind::dict);
      return;
    }
    push_items(Kind::call, {callable, arguments});
  }

  void build() {
    const Index state = pop();
    Node& target = nodes_[top()];
    if (target.kind != Kind::dict && target.kind != Kind::call) fail("it sets the state of something that has none");
    target.state = state;
  }

  // Picklers number the memo slots from 0 up, so a valid slot is less than the number of bytes.
  void memoize(std::uint64_t slot) {
    if (slot >= bytes_.size()) fail("memo slot " + std::to_string(slot));
    if (slot >= memo_.size()) memo_.resize(static_cast<std::size_t>(slot) + 1, kNoNode);
    Index& entry = memo_[static_cast<std::size_t>(slot)];
    if (entry == kNoNode) ++memoized_;
    entry = top();
  }

  void push_memo(std::uint64_t slot) {
    if (slot >= memo_.size() || memo_[static_cast<std::size_t>(slot)] == kNoNode) {
      fail("it recalls a value that it never remembered");
    }
    push(memo_[static_cast<std::size_t>(slot)]);
  }

  void push_long(std::uint64_t length) {
    const auto part = take(length);
    if (length > 8) return push_empty(Kind::opaque);
    std::uint64_t value = 0;
    for (std::size_t i = part.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(part[i]);
    const bool negative = !part.empty() && (static_cast<unsigned char>(part.back()) & 0x80U) != 0;
    if (negative && length < 8) value |= ~std::uint64_t{0} << (8 * length);
    push_integer(static_cast<std::int64_t>(value));
  }

  // ---- the virtual machine; opcodes as in Python's Lib/pickle.py ----

  Index execute() {
    for (;;) {
      const auto opcode = static_cast<unsigned char>(take(1).front());
      switch (opcode) {
        case '.': return stop();                                                               // STOP
        case 0x80: check_protocol(take_unsigned(1)); break;                                    // PROTO
        case 0x95: take_unsigned(8); break;                                                    // FRAME
        case '(': marks_.push_back(stack_.size()); break;                                      // MARK
        case '0': pop_value_or_mark(); break;                                                      // POP
        case '1': pop_to_mark(); break;                                                        // POP_MARK
        case '2': push(top()); break;                                                          // DUP
        case 'N': push(0); break;                                                              // NONE
        case 0x88: push_integer(1, Kind::boolean); break;                                      // NEWTRUE
        case 0x89: push_integer(0, Kind::boolean); break;                                      // NEWFALSE
        case 'J': push_integer(static_cast<std::int32_t>(take_unsigned(4))); break;            // BININT
        case 'K': push_integer(static_cast<std::int64_t>(take_unsigned(1))); break;            // BININT1
        case 'M': push_integer(static_cast<std::int64_t>(take_unsigned(2))); break;            // BININT2
        case 0x8a: push_long(take_unsigned(1)); break;                                         // LONG1
        case 0x8b: push_long(take_unsigned(4)); break;                                         // LONG4
        case 'G': push_real(take_double()); break;                                             // BINFLOAT
        case 'U': push_text(take_unsigned(1)); break;                                          // SHORT_BINSTRING
        case 'T': push_text(take_unsigned(4)); break;                                          // BINSTRING
        case 0x8c: push_text(take_unsigned(1)); break;                                         // SHORT_BINUNICODE
        case 'X': push_text(take_unsigned(4)); break;                                          // BINUNICODE
        case 0x8d: push_text(take_unsigned(8)); break;                                         // BINUNICODE8
        case 'C': push_opaque(take_unsigned(1)); break;                                        // SHORT_BINBYTES
        case 'B': push_opaque(take_unsigned(4)); break;                                        // BINBYTES
        case 0x8e: case 0x96: push_opaque(take_unsigned(8)); break;                            // BINBYTES8, BYTEARRAY8
        case ')': push_empty(Kind::tuple); break;                                                // EMPTY_TUPLE
        case 0x85: push_items(Kind::tuple, pop_many(1)); break;                                // TUPLE1
        case 0x86: push_items(Kind::tuple, pop_many(2)); break;                                // TUPLE2
        case 0x87: push_items(Kind::tuple, pop_many(3)); break;                                // TUPLE3
        case 't': push_items(Kind::tuple, pop_to_mark()); break;                               // TUPLE
        case ']': push_empty(Kind::list); break;                                                 // EMPTY_LIST
        case 'l': push_items(Kind::list, pop_to_mark()); break;                                // LIST
        case 'a': append_items(Kind::list, pop_many(1)); break;                                // APPEND
        case 'e': append_items(Kind::list, pop_to_mark()); break;                              // APPENDS
        case '}': push_empty(Kind::dict); break;                                                 // EMPTY_DICT
        case 's': append_items(Kind::dict, pop_many(2)); break;                                // SETITEM
        case 'u': append_items(Kind::dict, pop_to_mark()); break;                              // SETITEMS
        case 0x8f: push_empty(Kind::set); break;                                                 // EMPTY_SET
        case 0x90: append_items(Kind::set, pop_to_mark()); break;                              // ADDITEMS
        case 0x91: push_items(Kind::set, pop_to_mark()); break;                                // FROZENSET
        case 'c': { const auto module = take_line(); push_global(module, take_line()); break; }  // GLOBAL
        case 0x93: push_stack_global(); break;                                                 // STACK_GLOBAL
        case 'R': case 0x81: reduce(); break;                                                  // REDUCE, NEWOBJ
        case 'b': build(); break;                                                              // BUILD
        case 'Q': push_items(Kind::persistent, pop_many(1)); break;                            // BINPERSID
        case 'q': memoize(take_unsigned(1)); break;                                           // BINPUT
        case 'r': memoize(take_unsigned(4)); break;                                           // LONG_BINPUT
        case 0x94: memoize(memoized_); break;                                               // MEMOIZE
        case 'h': push_memo(take_unsigned(1)); break;                                             // BINGET
        case 'j': push_memo(take_unsigned(4)); break;                                             // LONG_BINGET
        default:
          throw UnsupportedPickle("it has the pickle opcode " + std::to_string(opcode) + " at byte " +
                              std::to_string(position_ - 1) + ", which no state_dict needs");
      }
    }
  }

  void push_real(double value) {
    const Index index = add(Kind::real);
    nodes_[index].real = value;
    push(index);
  }

  Index stop() {
    if (!marks_.empty() || stack_.size() != 1) fail("it ends with values left over");
    return pop();
  }

  void pop_value_or_mark() {
    if (!marks_.empty() && stack_.size() == marks_.back()) {
      marks_.pop_back();
    } else {
      pop();
    }
  }

  static void check_protocol(std::uint64_t protocol) {
    if (protocol < 2 || protocol > 5) fail("pickle protocol " + std::to_string(protocol));
  }

  std::string_view bytes_;
  IsAllowed is_allowed_;
  std::size_t position_ = 0;
  std::vector<Node> nodes_;
  std::vector<Index> stack_;
  std::vector<std::size_t> marks_;
  std::vector<Index> memo_;
  std::uint64_t memoized_ = 0;
  Index root_ = 0;
};

}  // namespace aztorch::detail
