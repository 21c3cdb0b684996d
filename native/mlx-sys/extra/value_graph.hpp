#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fused_kernel.hpp"

namespace emily::fusion {

// A lazy graph as a list: inputs come before what takes them, and what is there twice is there once.
//
// Values are numbered: the graph's inputs come first.
class Graph {
 public:
  struct Node {
    array result;
    std::vector<size_t> inputs;
    std::vector<size_t> outputs;
    // The nodes that take its outputs.
    std::vector<size_t> takers;
  };

  struct Value {
    array a;
    // The node that gives it, or -1 for inputs and constants.
    int64_t node;
    bool constant;
  };

  Graph(const std::vector<array>& inputs, const std::vector<array>& outputs);

  const std::vector<Node>& nodes() const {
    return nodes_;
  }

  const std::vector<Value>& values() const {
    return values_;
  }

  const std::vector<size_t>& outputs() const {
    return outputs_;
  }

  bool is_output(size_t value) const {
    return is_output_[value];
  }

 private:
  void visit(const array& root);
  void finish(const array& a);
  void add_constant(const array& a);
  bool add_twin(const array& a, const std::vector<size_t>& inputs);
  size_t add_value(const array& a, int64_t node, bool constant);

  std::vector<Node> nodes_;
  std::vector<Value> values_;
  std::vector<size_t> outputs_;
  std::vector<bool> is_output_;
  // By the identity of arrays.
  std::unordered_map<std::uintptr_t, size_t> numbers_;
  std::map<std::pair<uint64_t, mlx::core::Dtype::Val>, size_t> scalars_;
  // By what they take, the nodes that have one result.
  std::map<std::vector<size_t>, std::vector<size_t>> alike_;
};

} // namespace emily::fusion
