defmodule Emily.Golden.Unary do
  @moduledoc "Cases of elementwise operations on one input."

  alias Emily.Golden.{Case, Shapes, Values}

  # Functions of the reals, with a range where each of them is defined.
  @functions [
    exp: {-4, 4},
    expm1: {-4, 4},
    log: {0.05, 9},
    log1p: {-0.9, 9},
    sigmoid: {-6, 6},
    cos: {-9, 9},
    sin: {-9, 9},
    tan: {-1.4, 1.4},
    cosh: {-4, 4},
    sinh: {-4, 4},
    tanh: {-4, 4},
    acos: {-1, 1},
    asin: {-1, 1},
    atan: {-9, 9},
    acosh: {1, 9},
    asinh: {-9, 9},
    atanh: {-0.95, 0.95},
    sqrt: {0, 9},
    rsqrt: {0.05, 9},
    cbrt: {-9, 9},
    erf: {-3, 3},
    erfc: {-3, 3},
    erf_inv: {-0.95, 0.95},
    phase: {-9, 9}
  ]

  @exact ~w(abs ceil floor round negate sign conjugate real imag is_nan is_infinity logical_not)a
  @bits ~w(bitwise_not count_leading_zeros population_count)a

  def cases do
    Enum.concat([
      for(
        {name, range} <- @functions,
        type <- Case.types(),
        one <- function(name, type, range),
        do: one
      ),
      for(name <- @exact, type <- Case.types(), one <- exact(name, type), do: one),
      for(
        name <- @bits,
        {kind, _} = type when kind in [:u, :s] <- Case.types(),
        one <- exact(name, type),
        do: one
      )
    ])
  end

  defp function(name, type, range) do
    {low, high} = range(type, range)
    fun = &apply(Nx, name, [&1])
    numbers = Values.special(type) ++ Values.small(type)
    special = Case.record_elements(name(name), [Values.vector(numbers, type)], fun)
    within = Values.random(type, {24}, low, high)

    special ++
      Case.record_elements(name(name), [within], fun) ++
      for(
        input <- Shapes.inputs(type, low, high),
        one <- Case.record(name(name), [input], fun),
        do: one
      )
  end

  # Complex functions leave the principal branch for negative numbers; see `Emily.Golden.Exclusions`.
  defp range({:c, _}, {_low, high}), do: {0.05, high}
  defp range(_type, range), do: range

  defp exact(name, type) do
    fun = &apply(Nx, name, [&1])
    numbers = Values.special(type) ++ Values.small(type)
    shaped = if {name, type} == {:sign, {:c, 64}}, do: [], else: Shapes.inputs(type, -9, 9)

    Case.record_elements(name(name), [Values.vector(numbers, type)], fun) ++
      for(input <- shaped, one <- Case.record(name(name), [input], fun), do: one)
  end

  defp name(name), do: Atom.to_string(name)
end
