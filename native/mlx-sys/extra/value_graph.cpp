#include "value_graph.hpp"

#include <cstring>
#include <stdexcept>
#include <typeinfo>

namespace emily::fusion {

Graph::Graph(const std::vector<array>& inputs, const std::vector<array>& outputs) {
  for (const auto& input : inputs) {
    add_value(input, -1, false);
  }
  for (const auto& output : outputs) {
    visit(output);
    outputs_.push_back(numbers_.at(output.id()));
  }
  is_output_.resize(values_.size(), false);
  for (auto output : outputs_) {
    is_output_[output] = true;
  }
}

void Graph::visit(const array& root) {
  std::vector<std::pair<array, size_t>> path;
  auto enter = [&](const array& a) {
    if (numbers_.count(a.id())) {
      return;
    }
    if (a.has_primitive() && a.status() == array::Status::unscheduled) {
      path.emplace_back(a, 0);
    } else {
      add_constant(a);
    }
  };
  enter(root);
  while (!path.empty()) {
    auto& [a, next] = path.back();
    if (next < a.inputs().size()) {
      // Entering moves the path.
      auto input = a.inputs()[next++];
      enter(input);
      continue;
    }
    auto done = a;
    path.pop_back();
    if (!numbers_.count(done.id())) {
      finish(done);
    }
  }
}

void Graph::finish(const array& a) {
  std::vector<size_t> inputs;
  auto result = a;
  for (auto& input : result.inputs()) {
    inputs.push_back(numbers_.at(input.id()));
    // What stands for several is the same array everywhere.
    input = values_[inputs.back()].a;
  }
  if (add_twin(a, inputs)) {
    return;
  }
  auto number = nodes_.size();
  std::vector<size_t> outputs;
  for (const auto& output : a.outputs()) {
    outputs.push_back(add_value(output, static_cast<int64_t>(number), false));
  }
  for (auto input : inputs) {
    if (auto node = values_[input].node; node >= 0) {
      nodes_[node].takers.push_back(number);
    }
  }
  if (outputs.size() == 1) {
    alike_[inputs].push_back(number);
  }
  nodes_.push_back({result, std::move(inputs), std::move(outputs), {}});
}

// Whether there is a node already that gives the same; then that is its value.
bool Graph::add_twin(const array& a, const std::vector<size_t>& inputs) {
  if (!a.siblings().empty()) {
    return false;
  }
  auto alike = alike_.find(inputs);
  if (alike == alike_.end()) {
    return false;
  }
  auto& primitive = a.primitive();
  for (auto number : alike->second) {
    const auto& other = nodes_[number].result;
    auto& twin = other.primitive();
    if (typeid(primitive) == typeid(twin) && primitive.stream() == twin.stream() &&
        a.shape() == other.shape() && a.dtype() == other.dtype() &&
        primitive.is_equivalent(twin)) {
      numbers_.emplace(a.id(), nodes_[number].outputs[0]);
      return true;
    }
  }
  return false;
}

void Graph::add_constant(const array& a) {
  if (!a.is_available()) {
    throw std::invalid_argument("[fusion] the graph takes an array that is not among its inputs.");
  }
  if (a.ndim() > 0) {
    add_value(a, -1, true);
    return;
  }
  uint64_t bits = 0;
  std::memcpy(&bits, a.data<void>(), a.itemsize());
  auto [same, is_new] = scalars_.try_emplace({bits, a.dtype().val()}, values_.size());
  if (is_new) {
    add_value(a, -1, true);
  } else {
    numbers_.emplace(a.id(), same->second);
  }
}

size_t Graph::add_value(const array& a, int64_t node, bool constant) {
  numbers_.emplace(a.id(), values_.size());
  values_.push_back({a, node, constant});
  return values_.size() - 1;
}

} // namespace emily::fusion
