#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "mlx/primitives.h"

namespace emily::fusion {

using mlx::core::array;

// Several elementwise operations as one function in C++, for the host's processor.
struct Kernel {
  // `args` are the inputs' elements and then the result's; the inputs that are no scalars have strides,
  // and elements of the result lie one after another.
  using Function =
      void(void* const* args, const int64_t* const* strides, const int64_t* shape, int32_t dims);

  std::string name;
  std::string source;
  // For each input whether it has one element.
  std::vector<bool> scalar;
  Function* function{nullptr};
  // Keeps the function's code where it is.
  std::shared_ptr<void> library;
};

// Operations to be made into one: each element of the last one's result takes the elements in its place,
// or the only one there is, of everything before it.
struct Group {
  // Inputs come before what takes them.
  std::vector<const array*> members;
  // What is taken from outside, without constants.
  std::vector<const array*> inputs;
  // Scalars that are known, by their identity the names of the arrays that are they.
  std::unordered_map<std::uintptr_t, const array*> constants;
};

// Whether the array has the bits of another one as elements of its type. MLX's classes are not known outside
// of it, but for their names.
bool is_view(const array& a);

// Whether kernels can have elements of this type, which all types but those to come are.
bool has_kernel_type(mlx::core::Dtype type);

std::shared_ptr<Kernel> write_kernel(const Group& group);

// What sources of kernels have before them.
const char* kernel_prelude();

// A group of operations that a kernel computes.
class Fused : public mlx::core::UnaryPrimitive {
 public:
  Fused(mlx::core::Stream stream, std::shared_ptr<Kernel> kernel)
      : UnaryPrimitive(stream), kernel_(std::move(kernel)) {}

  void eval_cpu(const std::vector<array>& inputs, array& out) override;
  void eval_gpu(const std::vector<array>& inputs, array& out) override;

  const char* name() const override {
    return "Fused";
  }

 private:
  std::shared_ptr<Kernel> kernel_;
};

} // namespace emily::fusion
