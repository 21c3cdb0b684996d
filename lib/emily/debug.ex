defmodule Emily.Debug do
  @moduledoc """
  Looking for faults in values: indices out of bounds, NaN and infinities.

  Two settings have Emily look at the values of some operations. They are read when Emily is compiled, and
  cost nothing where they are off: the operations are the same ones, and no branch is left that would ask.

      # config/dev.exs
      config :emily, debug_bounds_check: true, debug_detect_nan_inf: true

  After a change, Mix compiles Emily again. Where it does not, tell it to:

      $ mix deps.compile emily --force

  Checked operations are so wherever they go: called, compiled, or in a program's file.

  ## `debug_bounds_check: true`

  `Nx.gather/3`, `Nx.take/3`, `Nx.take_along_axis/3`, `Nx.indexed_add/4` and `Nx.indexed_put/4` say which
  index is not within its axis, and where it stands:

      ** (Emily.Error) take failed: expected an index of take to be from 0 and below 3 along axis 1 of
      f32[2][3], got: 7 at [0][2] in the indices, s64[2][3], the first of 2

  See "Indices" below for what these and other operations do without the setting.

  ## `debug_detect_nan_inf: true`

  `Nx.dot/6`, `Nx.conv/3`, and of `Nx.LinAlg` the factorizations, `solve/2`, `triangular_solve/3` and
  `determinant/1` must give finite numbers. What they made themselves is told from what they were given:

      ** (Emily.Error) dot failed: expected dot of finite numbers to give finite numbers, got: 2 Infinity of 4
      elements, the first one at [1][0] in the output, f32[2][2]

      ** (Emily.Error) dot failed: expected dot to be given finite numbers, got: 1 NaN of 6 elements, the first
      one at [0][1] in the second input, f32[2][3]; which made 2 NaN of …

  Of checked operations in a row, the first one whose result is not finite is named. Where infinities are meant,
  as a mask of attention, they do no harm unless they come through to such a result.

  ## Where

  Operations are lazy, so a fault shows when a tensor is computed: whoever reads it, or anything that was made
  from it, gets the error. Its attributes end with the line that asked for the operation, `at:`, the nearest one
  that is not Emily's or Nx's own; of a function that `Emily.Compiler` keeps, the line of its first call. The VM
  shows the upper 8 calls of a stack, which is not enough for what a `defn` asks for;
  `:erlang.system_flag(:backtrace_depth, 64)` shows more.

  ## What it costs

  A checked operation takes about 20 µs more to note and to compute, half of it for the line. For finite numbers
  the result's extremes are computed as well, which on two CPU cores makes a product of matrices slower by a half
  at 64 × 64, by a fifth at 256 × 256 and by a thirtieth at 1024 × 1024 (`bench/debug.exs` measures it).
  Indices are looked at anyway. Until its result is computed, the tensors that an operation was given stay in
  memory, for the error's words.

  ## Indices

  What happens to an index that is out of bounds, or negative, does not depend on the settings:

  | operation | what happens |
  | --- | --- |
  | `gather`, `take`, `take_along_axis`, `indexed_add`, `indexed_put` | an error: `ArgumentError` at once if the indices are few and computed already, else `Emily.Error` when the result is read, with shapes and types, and with the index if `debug_bounds_check` is on |
  | `Emily.Quantization.gather_qmm/3` | the same, but that the setting names no index |
  | `slice`, `put_slice` | the start is moved so far that the slice lies within the tensor, as Nx defines it |
  """

  # Joined by a line each: which operations have indices, and which ought to be finite.
  @indexing ~w(gather take take_along_axis indexed_add indexed_put)a
  @numeric ~w(dot conv triangular_solve solve cholesky determinant qr eigh svd lu)a

  @flags [
    {:debug_bounds_check, Application.compile_env(:emily, :debug_bounds_check, false), :bounds,
     @indexing},
    {:debug_detect_nan_inf, Application.compile_env(:emily, :debug_detect_nan_inf, false),
     :finite, @numeric}
  ]

  for {flag, value, _assertion, _names} <- @flags, not is_boolean(value) do
    raise ArgumentError,
          "expected config :emily, #{flag}: to be true or false, got: #{inspect(value)}"
  end

  @assertions for {_flag, true, assertion, names} <- @flags,
                  name <- names,
                  reduce: %{},
                  do: (all -> Map.update(all, name, [assertion], &(&1 ++ [assertion])))

  @doc """
  What the configuration has Emily look at, as it was when Emily was compiled.

      iex> Emily.Debug.settings()
      [debug_bounds_check: false, debug_detect_nan_inf: false]
  """
  @spec settings() :: keyword(boolean())
  def settings, do: unquote(for {flag, value, _assertion, _names} <- @flags, do: {flag, value})

  @doc false
  # The operation with what must hold of its values; where nothing is looked at, nothing but itself.
  defmacro checked(operation) do
    if @assertions == %{},
      do: operation,
      else: quote(do: unquote(__MODULE__).assert(unquote(operation)))
  end

  @doc false
  def assert(operation) do
    name = if is_tuple(operation), do: elem(operation, 0), else: operation

    case Map.get(@assertions, name, []) do
      [] -> operation
      assertions -> {:checked, %{op: operation, of: assertions, at: place()}}
    end
  end

  # The nearest call on the stack that is not Emily's or Nx's own. The VM shows its upper end alone, and a
  # function that ends in a call is no longer on it.
  defp place do
    {:current_stacktrace, stack} = Process.info(self(), :current_stacktrace)

    Enum.find_value(stack, fn {module, function, arity, location} ->
      if location[:line] && not own?(Atom.to_string(module)) do
        "#{location[:file]}:#{location[:line]}: #{Exception.format_mfa(module, function, arity)}"
      end
    end)
  end

  defp own?("Elixir.Emily." <> _module), do: true
  defp own?("Elixir.Nx"), do: true
  defp own?("Elixir.Nx." <> _module), do: true
  defp own?("Elixir." <> module), do: module in ~w(Process Enum Enumerable.List)
  defp own?(_erlang), do: true
end
