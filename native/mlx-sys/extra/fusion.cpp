#include "fusion.h"

#include <algorithm>
#include <memory>
#include <queue>
#include <stdexcept>
#include <string_view>
#include <unordered_set>

#include <dlfcn.h>

#include "value_graph.hpp"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

namespace emily::fusion {

namespace {

using mlx::core::Device;
using mlx::core::Dtype;
using mlx::core::Primitive;
using mlx::core::Shape;

// A kernel for Metal has no more than 31 buffers; MLX stops at so many arrays. A function of the host's can
// have many more.
constexpr size_t MOST_ARRAYS = 24;
constexpr size_t MOST_ARRAYS_ON_HOST = 128;
// Compilers take longer with each operation than with the one before.
constexpr size_t MOST_MEMBERS = 256;
constexpr size_t MOST_AXES = 32;

// What MLX's headers for kernels have functions of the same name for, on each element.
const std::unordered_set<std::string_view>& elementwise() {
  static const std::unordered_set<std::string_view> names = {
      "AsType",       "Broadcast",    "Abs",        "Add",          "ArcCos",     "ArcCosh",     "ArcSin",     "ArcSinh",
      "ArcTan",       "ArcTan2",      "ArcTanh",    "BitwiseAnd",  "BitwiseInvert", "BitwiseOr",
      "BitwiseXor",   "Ceil",         "Conjugate",  "Cos",         "Cosh",       "Divide",
      "Equal",        "Erf",          "ErfInv",     "Exp",         "Expm1",      "Floor",
      "Greater",      "GreaterEqual", "Imag",       "LeftShift",   "Less",       "LessEqual",
      "Log",          "Log10",        "Log1p",      "Log2",        "LogAddExp",  "LogicalAnd",
      "LogicalNot",   "LogicalOr",    "Maximum",    "Minimum",     "Multiply",   "NaNEqual",
      "Negative",     "NotEqual",     "Power",      "Real",        "Remainder",  "RightShift",
      "Round",        "Rsqrt",        "Select",     "Sigmoid",     "Sign",       "Sin",
      "Sinh",         "Sqrt",         "Square",     "Subtract",    "Tan",        "Tanh",
  };
  return names;
}

bool is_broadcast(const Primitive& p) {
  return std::string_view(p.name()) == "Broadcast";
}

// An operation on the elements in one place, with no more than a conversion besides.
bool is_fusable(const Graph::Node& node) {
  const auto& a = node.result;
  auto& p = a.primitive();
  if (node.outputs.size() != 1 || a.ndim() > MOST_AXES || !has_kernel_type(a.dtype())) {
    return false;
  }
  if (is_view(a)) {
    // Truth as a byte, which has the same bits. MLX's own kernels do not know it.
    return p.device() == Device::cpu && a.dtype() == mlx::core::uint8 &&
        a.inputs()[0].dtype() == mlx::core::bool_;
  }
  return elementwise().count(p.name()) > 0;
}

// Finds the operations that end up in the one that comes last.
class Search {
 public:
  explicit Search(const Graph& graph) : graph_(graph), inside_(graph.nodes().size(), false) {}

  // The values that the node is to be computed from together with others, or nothing where it stays alone.
  bool find(size_t root) {
    const auto& node = graph_.nodes()[root];
    members_ = {root};
    inputs_.clear();
    candidates_ = {};
    queued_.clear();
    if (!is_fusable(node) || is_broadcast(node.result.primitive()) || node.result.size() == 0) {
      return false;
    }
    shape_ = &node.result.shape();
    inside_[root] = true;
    take(node);
    while (!candidates_.empty()) {
      auto value = candidates_.top();
      candidates_.pop();
      absorb(value);
    }
    for (auto member : members_) {
      inside_[member] = false;
    }
    std::sort(members_.begin(), members_.end());
    std::sort(inputs_.begin(), inputs_.end());
    return std::count_if(members_.begin(), members_.end(), [&](size_t member) {
             return !is_broadcast(graph_.nodes()[member].result.primitive());
           }) > 1;
  }

  const std::vector<size_t>& members() const {
    return members_;
  }

  // The values that come from outside, constants among them.
  const std::vector<size_t>& inputs() const {
    return inputs_;
  }

 private:
  void take(const Graph::Node& node) {
    for (auto input : node.inputs) {
      if (queued_.insert(input).second) {
        candidates_.push(input);
      }
    }
  }

  // Greatest first, so that all that takes a value has been decided on before.
  void absorb(size_t value) {
    auto number = graph_.values()[value].node;
    if (number < 0 || !belongs(value, graph_.nodes()[number])) {
      inputs_.push_back(value);
      return;
    }
    const auto& node = graph_.nodes()[number];
    const auto& takers = node.takers;
    bool only = std::all_of(
        takers.begin(), takers.end(), [&](size_t taker) { return inside_[taker]; });
    if (!only && !is_broadcast(node.result.primitive())) {
      inputs_.push_back(value);
      return;
    }
    // Others keep a broadcast that is here, too: it is no work.
    inside_[number] = only;
    members_.push_back(number);
    take(node);
  }

  bool belongs(size_t value, const Graph::Node& node) const {
    const auto& root = graph_.nodes()[members_[0]].result;
    const auto& a = node.result;
    bool host = root.primitive().device() == Device::cpu;
    auto most = host ? MOST_ARRAYS_ON_HOST : MOST_ARRAYS;
    return !graph_.is_output(value) && is_fusable(node) &&
        a.primitive().stream() == root.primitive().stream() &&
        (a.shape() == *shape_ || a.size() == 1) && members_.size() < MOST_MEMBERS &&
        inputs_.size() + candidates_.size() + node.inputs.size() < most;
  }

  const Graph& graph_;
  const Shape* shape_{nullptr};
  std::vector<size_t> members_;
  std::vector<size_t> inputs_;
  // By node: whether it is a member and nothing else needs it.
  std::vector<bool> inside_;
  std::priority_queue<size_t> candidates_;
  std::unordered_set<size_t> queued_;
};

} // namespace

class Fusion {
 public:
  Fusion(const std::vector<array>& inputs, const std::vector<array>& outputs)
      : inputs_(inputs.size()) {
    Graph graph(inputs, outputs);
    before_ = graph.nodes().size();
    outputs_ = graph.outputs();
    plan(graph);
    number(graph);
  }

  size_t before() const {
    return before_;
  }

  size_t after() const {
    return steps_.size();
  }

  const std::vector<std::shared_ptr<Kernel>>& kernels() const {
    return kernels_;
  }

  void load(const char* path) {
    std::shared_ptr<void> library(dlopen(path, RTLD_NOW | RTLD_LOCAL), [](void* handle) {
      if (handle) {
        dlclose(handle);
      }
    });
    if (!library) {
      throw std::runtime_error(dlerror());
    }
    for (const auto& kernel : kernels_) {
      void* function = dlsym(library.get(), kernel->name.c_str());
      if (!function) {
        throw std::runtime_error(dlerror());
      }
      kernel->function = reinterpret_cast<Kernel::Function*>(function);
      kernel->library = library;
    }
  }

  std::vector<array> apply(const std::vector<array>& inputs) const {
    if (inputs.size() != inputs_) {
      throw std::invalid_argument("[fusion] another number of inputs.");
    }
    std::vector<array> values;
    values.reserve(values_);
    values.insert(values.end(), inputs.begin(), inputs.end());
    values.insert(values.end(), constants_.begin(), constants_.end());
    for (const auto& step : steps_) {
      std::vector<array> taken;
      taken.reserve(step.inputs.size());
      for (auto input : step.inputs) {
        taken.push_back(values[input]);
      }
      if (step.shapes.size() == 1) {
        values.emplace_back(step.shapes[0], step.types[0], step.primitive, std::move(taken));
        continue;
      }
      for (auto& given : array::make_arrays(step.shapes, step.types, step.primitive, taken)) {
        values.push_back(std::move(given));
      }
    }
    std::vector<array> outputs;
    outputs.reserve(outputs_.size());
    for (auto output : outputs_) {
      outputs.push_back(values[output]);
    }
    return outputs;
  }

 private:
  struct Step {
    std::shared_ptr<Primitive> primitive;
    std::vector<Shape> shapes;
    std::vector<Dtype> types;
    std::vector<size_t> inputs;
    // The graph's values that it gives, until they have numbers here.
    std::vector<size_t> outputs;
  };

  // From the end on, so that what is part of something else is never done by itself.
  void plan(const Graph& graph) {
    std::vector<bool> needed(graph.values().size(), false);
    for (auto output : graph.outputs()) {
      needed[output] = true;
    }
    Search search(graph);
    for (auto at = graph.nodes().size(); at-- > 0;) {
      const auto& node = graph.nodes()[at];
      bool used = std::any_of(node.outputs.begin(), node.outputs.end(), [&](size_t output) {
        return needed[output];
      });
      if (!used) {
        continue;
      }
      steps_.push_back(search.find(at) ? fused(graph, search) : alone(graph, node));
      for (auto input : steps_.back().inputs) {
        needed[input] = true;
      }
    }
    std::reverse(steps_.begin(), steps_.end());
  }

  static Step alone(const Graph& graph, const Graph::Node& node) {
    Step step{node.result.primitive_ptr(), {}, {}, node.inputs, node.outputs};
    for (auto output : node.outputs) {
      step.shapes.push_back(graph.values()[output].a.shape());
      step.types.push_back(graph.values()[output].a.dtype());
    }
    return step;
  }

  Step fused(const Graph& graph, const Search& search) {
    const auto& root = graph.nodes()[search.members().back()];
    Step step{nullptr, {root.result.shape()}, {root.result.dtype()}, {}, root.outputs};
    Group group;
    std::vector<array> all_inputs;
    std::unordered_set<std::uintptr_t> constants;
    bool host = root.result.primitive().device() == Device::cpu;
    for (auto member : search.members()) {
      group.members.push_back(&graph.nodes()[member].result);
    }
    for (auto input : search.inputs()) {
      const auto& value = graph.values()[input];
      bool known = value.constant && value.a.size() == 1;
      if (known) {
        constants.insert(value.a.id());
        group.constants.emplace(value.a.id(), &value.a);
      } else {
        group.inputs.push_back(&value.a);
      }
      if (!known || !host) {
        step.inputs.push_back(input);
        all_inputs.push_back(value.a);
      }
    }
    auto stream = root.result.primitive().stream();
    if (host) {
      step.primitive = std::make_shared<Fused>(stream, shared(write_kernel(group)));
    } else {
      std::vector<array> tape;
      for (const auto* member : group.members) {
        tape.push_back(*member);
      }
      step.primitive = std::make_shared<mlx::core::Compiled>(
          stream,
          std::move(all_inputs),
          std::vector<array>{root.result},
          std::move(tape),
          std::move(constants));
    }
    return step;
  }

  // Groups that do the same share a kernel.
  std::shared_ptr<Kernel> shared(std::shared_ptr<Kernel> kernel) {
    auto [known, is_new] = by_name_.try_emplace(kernel->name, kernels_.size());
    if (is_new) {
      kernels_.push_back(std::move(kernel));
    }
    return kernels_[known->second];
  }

  // Numbers what the steps take as `apply` has it: inputs, constants, what the steps give.
  void number(const Graph& graph) {
    std::vector<size_t> numbers(graph.values().size(), 0);
    std::vector<bool> known(graph.values().size(), false);
    for (size_t input = 0; input < inputs_; ++input) {
      numbers[input] = input;
      known[input] = true;
    }
    auto note_constant = [&](size_t value) {
      if (graph.values()[value].constant && !known[value]) {
        known[value] = true;
        numbers[value] = inputs_ + constants_.size();
        constants_.push_back(graph.values()[value].a);
      }
    };
    for (const auto& step : steps_) {
      std::for_each(step.inputs.begin(), step.inputs.end(), note_constant);
    }
    std::for_each(outputs_.begin(), outputs_.end(), note_constant);
    values_ = inputs_ + constants_.size();
    for (auto& step : steps_) {
      for (auto& input : step.inputs) {
        input = numbers[input];
      }
      for (auto output : step.outputs) {
        numbers[output] = values_++;
      }
      step.outputs.clear();
    }
    for (auto& output : outputs_) {
      output = numbers[output];
    }
  }

  size_t before_;
  size_t inputs_;
  size_t values_{0};
  std::vector<array> constants_;
  std::vector<Step> steps_;
  std::vector<size_t> outputs_;
  std::vector<std::shared_ptr<Kernel>> kernels_;
  std::unordered_map<std::string, size_t> by_name_;
};

} // namespace emily::fusion

namespace {

using mlx::core::array;
using mlx::core::Shape;

emily::fusion::Fusion& get(emily_fusion fusion) {
  return *static_cast<emily::fusion::Fusion*>(fusion.ctx);
}

template <typename F>
int reporting(F&& run) {
  try {
    run();
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}

} // namespace

extern "C" int emily_placeholder(mlx_array* res, const int* shape, int dim, mlx_dtype dtype) {
  return reporting([&] {
    mlx_array_set_(
        *res, array(Shape(shape, shape + dim), mlx_dtype_to_cpp(dtype), nullptr, {}));
  });
}

extern "C" int emily_fusion_new(
    emily_fusion* res,
    const mlx_vector_array inputs,
    const mlx_vector_array outputs) {
  return reporting([&] {
    res->ctx = new emily::fusion::Fusion(mlx_vector_array_get_(inputs), mlx_vector_array_get_(outputs));
  });
}

extern "C" void emily_fusion_free(emily_fusion fusion) {
  delete static_cast<emily::fusion::Fusion*>(fusion.ctx);
}

extern "C" void emily_fusion_counts(emily_fusion fusion, size_t* before, size_t* after) {
  *before = get(fusion).before();
  *after = get(fusion).after();
}

extern "C" size_t emily_fusion_kernels(emily_fusion fusion) {
  return get(fusion).kernels().size();
}

extern "C" void emily_fusion_kernel(
    emily_fusion fusion,
    size_t number,
    const char** name,
    const char** source) {
  const auto& kernel = *get(fusion).kernels()[number];
  *name = kernel.name.c_str();
  *source = kernel.source.c_str();
}

extern "C" const char* emily_fusion_prelude(void) {
  return emily::fusion::kernel_prelude();
}

extern "C" int emily_fusion_load(emily_fusion fusion, const char* path) {
  return reporting([&] { get(fusion).load(path); });
}

extern "C" int emily_fusion_apply(
    const mlx_vector_array outputs,
    emily_fusion fusion,
    const mlx_vector_array inputs) {
  return reporting([&] {
    mlx_vector_array_get_(outputs) = get(fusion).apply(mlx_vector_array_get_(inputs));
  });
}
