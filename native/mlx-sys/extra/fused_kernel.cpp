#include "fused_kernel.hpp"

#include <array>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/types/half_types.h"

namespace emily::fusion {

namespace {

using mlx::core::Dtype;

const char* const PRELUDE = R"(
#include <cstdint>
#include <cstring>
#include <type_traits>
using namespace mlx::core;
using namespace mlx::core::detail;

namespace {

// A constant by its bits. The compiler is not to compute with it, which gives other bits than the
// functions that operations call when they run alone.
template <typename T, typename U>
inline T constant(U bits) {
  static_assert(sizeof(T) == sizeof(U), "as many bits");
  asm volatile("" : "+r"(bits));
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

// Calls `row` for each run of elements along the last axis, with where it begins in each of the inputs
// and in the result.
template <int N, typename Row>
inline void walk(const int64_t* const* strides, const int64_t* shape, int32_t dims, Row row) {
  int64_t offsets[N + 1] = {};
  int64_t at[64] = {};
  const int32_t last = dims - 1;
  bool dense = true;
  for (int k = 0; k < N; ++k) dense = dense && strides[k][last] == 1;
  for (;;) {
    if (dense) row(offsets, shape[last], std::true_type{});
    else row(offsets, shape[last], std::false_type{});
    offsets[N] += shape[last];
    int32_t d = last - 1;
    for (; d >= 0; --d) {
      for (int k = 0; k < N; ++k) offsets[k] += strides[k][d];
      if (++at[d] < shape[d]) break;
      for (int k = 0; k < N; ++k) offsets[k] -= strides[k][d] * shape[d];
      at[d] = 0;
    }
    if (d < 0) return;
  }
}

} // namespace
)";

const char* type_name(Dtype type) {
  switch (type.val()) {
    case Dtype::Val::bool_:
      return "bool";
    case Dtype::Val::uint8:
      return "uint8_t";
    case Dtype::Val::uint16:
      return "uint16_t";
    case Dtype::Val::uint32:
      return "uint32_t";
    case Dtype::Val::uint64:
      return "uint64_t";
    case Dtype::Val::int8:
      return "int8_t";
    case Dtype::Val::int16:
      return "int16_t";
    case Dtype::Val::int32:
      return "int32_t";
    case Dtype::Val::int64:
      return "int64_t";
    case Dtype::Val::float16:
      return "float16_t";
    case Dtype::Val::bfloat16:
      return "bfloat16_t";
    case Dtype::Val::float32:
      return "float";
    case Dtype::Val::float64:
      return "double";
    case Dtype::Val::complex64:
      return "complex64_t";
    default:
      return nullptr;
  }
}

template <typename T>
std::string bits_of(const array& a, const char* type) {
  T bits;
  std::memcpy(&bits, a.data<void>(), sizeof(T));
  std::ostringstream text;
  text << type << "(" << +bits << "u)";
  return text.str();
}

// A scalar that is known, as C++.
std::string constant(const array& a) {
  std::string bits;
  switch (a.itemsize()) {
    case 1:
      // Registers of one byte are not to be had everywhere.
      return std::string("static_cast<") + type_name(a.dtype()) +
          ">(constant<uint32_t>(" + bits_of<uint8_t>(a, "uint32_t") + "))";
    case 2:
      bits = bits_of<uint16_t>(a, "uint16_t");
      break;
    case 4:
      bits = bits_of<uint32_t>(a, "uint32_t");
      break;
    default:
      bits = bits_of<uint64_t>(a, "uint64_t");
  }
  return std::string("constant<") + type_name(a.dtype()) + ">(" + bits + ")";
}

class Writer {
 public:
  explicit Writer(const Group& group)
      : group_(group), result_(*group.members.back()) {}

  std::shared_ptr<Kernel> write() {
    auto kernel = std::make_shared<Kernel>();
    std::ostringstream before, loop;
    int strided = 0;
    for (const auto* input : group_.inputs) {
      auto number = kernel->scalar.size();
      bool scalar = input->size() == 1;
      kernel->scalar.push_back(scalar);
      const auto* type = type_name(input->dtype());
      before << "  const auto* a" << number << " = static_cast<const " << type
             << "*>(args[" << number << "]);\n";
      auto name = name_of(*input);
      if (scalar) {
        before << "  const " << type << " " << name << " = a" << number << "[0];\n";
      } else {
        pointers_ << "    const auto* p" << number << " = a" << number << " + offsets["
                  << strided << "]; const int64_t s" << number
                  << " = dense ? 1 : strides[" << strided << "][dims - 1];\n";
        loop << "      const " << type << " " << name << " = p" << number << "[i * s"
             << number << "];\n";
        ++strided;
      }
    }
    for (const auto& [id, known] : ordered()) {
      before << "  const " << type_name(known->dtype()) << " " << name_of(*known) << " = "
             << constant(*known) << ";\n";
    }
    bool single = result_.size() == 1;
    for (const auto* member : group_.members) {
      (single || member->size() == 1 ? before : loop) << statement(*member);
    }
    kernel->source = text(before.str(), loop.str(), single, strided, kernel->scalar.size());
    kernel->name = "emily_" + hash(kernel->source);
    kernel->source = "extern \"C\" void " + kernel->name + kernel->source;
    return kernel;
  }

 private:
  std::string text(
      const std::string& before,
      const std::string& loop,
      bool single,
      int strided,
      size_t inputs) {
    std::ostringstream out;
    const auto* type = type_name(result_.dtype());
    auto last = name_of(result_);
    out << "(void* const* args, const int64_t* const* strides, const int64_t* shape, int32_t dims) {\n"
        << before << "  auto* out = static_cast<" << type << "*>(args[" << inputs << "]);\n";
    if (single) {
      out << "  out[0] = " << last << ";\n}\n";
      return out.str();
    }
    // The result may lie where an input does, each element in the place of the one that it is made from.
    out << "  walk<" << strided
        << ">(strides, shape, dims, [&](const int64_t* offsets, int64_t n, auto is_dense) {\n"
        << "    constexpr bool dense = decltype(is_dense)::value;\n"
        << pointers_.str() << "    auto* q = out + offsets[" << strided << "];\n"
        << "#pragma GCC ivdep\n"
        << "    for (int64_t i = 0; i < n; ++i) {\n"
        << loop << "      q[i] = " << last << ";\n    }\n  });\n}\n";
    return out.str();
  }

  std::string statement(const array& a) {
    std::ostringstream out;
    std::string_view name = a.primitive().name();
    const auto* type = type_name(a.dtype());
    const auto& inputs = a.inputs();
    // Their names come first: the result's is the next one.
    std::string list;
    for (const auto& input : inputs) {
      list += (list.empty() ? "" : ", ") + name_of(input);
    }
    auto result = name_of(a);
    bool converts = name == "AsType" || name == "Broadcast" || is_view(a);
    out << "      const " << type << " " << result << " = ";
    if (converts) {
      out << "static_cast<" << type << ">(" << list << ");\n";
    } else {
      out << name << "()(" << list << ");\n";
    }
    return out.str();
  }

  // Names are in the order in which they are needed, so that like groups have like sources.
  std::string name_of(const array& a) {
    return "t" + std::to_string(names_.try_emplace(a.id(), names_.size()).first->second);
  }

  // Constants in the order in which members take them.
  std::vector<std::pair<std::uintptr_t, const array*>> ordered() const {
    std::vector<std::pair<std::uintptr_t, const array*>> constants;
    std::unordered_map<std::uintptr_t, bool> seen;
    for (const auto* member : group_.members) {
      for (const auto& input : member->inputs()) {
        auto known = group_.constants.find(input.id());
        if (known != group_.constants.end() && seen.try_emplace(input.id(), true).second) {
          constants.push_back(*known);
        }
      }
    }
    return constants;
  }

  // 128 bits: FNV-1a from two beginnings.
  static std::string hash(const std::string& text) {
    std::ostringstream out;
    for (uint64_t value : {0xcbf29ce484222325ull, 0x84222325cbf29ce4ull}) {
      for (unsigned char byte : text) {
        value = (value ^ byte) * 0x100000001b3ull;
      }
      out << std::hex << value;
    }
    return out.str();
  }

  const Group& group_;
  const array& result_;
  std::ostringstream pointers_;
  std::unordered_map<std::uintptr_t, size_t> names_;
};

using Strides = std::vector<std::vector<int64_t>>;

// The elements in the order of the result, with axes put together where that makes no difference.
struct Order {
  std::vector<int64_t> shape;
  // For each input that is no scalar.
  Strides strides;
};

Order order_of(const std::vector<const array*>& inputs, const mlx::core::Shape& shape) {
  Order order;
  order.strides.resize(inputs.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 1) {
      continue;
    }
    std::vector<int64_t> steps;
    bool joins = !order.shape.empty();
    for (size_t k = 0; k < inputs.size(); ++k) {
      const auto& x = *inputs[k];
      auto own = static_cast<int64_t>(axis) - static_cast<int64_t>(shape.size() - x.ndim());
      bool repeated = own < 0 || x.shape(own) == 1;
      steps.push_back(repeated ? 0 : x.strides()[own]);
      joins = joins && order.strides[k].back() == steps.back() * shape[axis];
    }
    if (joins) {
      order.shape.back() *= shape[axis];
    } else {
      order.shape.push_back(shape[axis]);
    }
    for (size_t k = 0; k < inputs.size(); ++k) {
      if (joins) {
        order.strides[k].back() = steps[k];
      } else {
        order.strides[k].push_back(steps[k]);
      }
    }
  }
  return order;
}

// An input whose elements lie without gaps as the result's may, if there is one: then layout makes no
// difference. It is the same rule as that of MLX's compiled operations.
const array* dense_like(const std::vector<const array*>& inputs, const mlx::core::Shape& shape) {
  bool rows = true, columns = true, any = true;
  for (const auto* x : inputs) {
    bool same = x->shape() == shape;
    for (auto stride : x->strides()) {
      same = same && stride >= 0;
    }
    any = any && same && x->flags().contiguous;
    rows = rows && same && x->flags().row_contiguous;
    columns = columns && same && x->flags().col_contiguous;
  }
  bool dense = inputs.size() == 1 ? any : rows || columns;
  return !inputs.empty() && dense ? inputs[0] : nullptr;
}

} // namespace

bool is_view(const array& a) {
  return std::string_view(a.primitive().name()).substr(0, 5) == "View ";
}

bool has_kernel_type(Dtype type) {
  return type_name(type) != nullptr;
}

std::shared_ptr<Kernel> write_kernel(const Group& group) {
  return Writer(group).write();
}

const char* kernel_prelude() {
  return PRELUDE;
}

void Fused::eval_cpu(const std::vector<array>& inputs, array& out) {
  std::vector<const array*> strided;
  std::vector<void*> args;
  for (size_t i = 0; i < inputs.size(); ++i) {
    args.push_back(const_cast<void*>(inputs[i].data<void>()));
    if (!kernel_->scalar[i]) {
      strided.push_back(&inputs[i]);
    }
  }
  Order order;
  const auto* like = dense_like(strided, out.shape());
  if (like) {
    order.shape = {static_cast<int64_t>(like->data_size())};
    order.strides = Strides(strided.size(), {1});
  } else {
    order = order_of(strided, out.shape());
  }
  bool given = false;
  for (const auto* x : strided) {
    if (given || x->itemsize() != out.itemsize() || !x->is_donatable()) {
      continue;
    }
    if (like) {
      out.copy_shared_buffer(*x);
      given = true;
    } else if (x->flags().row_contiguous && x->size() == out.size()) {
      out.copy_shared_buffer(*x, out.strides(), x->flags(), x->data_size());
      given = true;
    }
  }
  if (!given && like) {
    auto bytes = like->data_size() * out.itemsize();
    out.set_data(
        mlx::core::allocator::malloc(bytes), like->data_size(), like->strides(), like->flags());
  } else if (!given) {
    out.set_data(mlx::core::allocator::malloc(out.nbytes()));
  }
  args.push_back(out.data<void>());
  auto& encoder = mlx::core::cpu::get_command_encoder(stream());
  encoder.dispatch([kernel = kernel_, args = std::move(args), order = std::move(order)]() {
    std::vector<const int64_t*> strides;
    for (const auto& steps : order.strides) {
      strides.push_back(steps.data());
    }
    kernel->function(
        args.data(), strides.data(), order.shape.data(), static_cast<int32_t>(order.shape.size()));
  });
}

void Fused::eval_gpu(const std::vector<array>&, array&) {
  throw std::runtime_error("[Fused] there is no kernel for a GPU.");
}

} // namespace emily::fusion
