defmodule Emily.Debug do
  @moduledoc """
  Looking for faults in values: indices out of bounds, NaN and infinities.

  Two settings of the configuration have Emily look at the values of some operations. They are read when
  Emily is compiled, and cost nothing where they are off: the operations are the same ones, and no
  branch is left that would ask.

      # config/dev.exs
      config :emily, debug_bounds_check: true, debug_detect_nan_inf: true

  After a change of them, compile Emily again:

      $ mix deps.compile emily --force

  ## `debug_bounds_check: true`

  #{Enum.map_join(~w(gather take take_along_axis indexed_add indexed_put), ", ", &"`Nx.#{&1}`")}
  tell which index is not within its axis, and where it stands:

      ** (Emily.Error) take failed: expected an index of take to be from 0 and below 3 along axis 1
      of f32[2][3], got: 7 at [0][2] in the indices, s64[2][3], the first of 2

  Without the setting, too, an index out of bounds is an error, with no exceptions: `Emily.Error` with the
  shapes and types, but not with the index. Where an operation gets few indices that are computed already,
  it looks at them at once, and `ArgumentError` has it all.

  ## `debug_detect_nan_inf: true`

  `Nx.dot/6`, `Nx.conv/3`, and of `Nx.LinAlg` the factorizations, `solve/2`, `triangular_solve/3` and
  `determinant/1` must give finite numbers. What they made themselves is told from what they were given:

      ** (Emily.Error) dot failed: expected dot of finite numbers to give finite numbers, got: 2 Infinity of
      4 elements, the first one at [1][0] in the output, f32[2][2]

      ** (Emily.Error) dot failed: expected dot to be given finite numbers, got: 1 NaN of 6 elements, the
      first one at [0][1] in the second input, f32[2][3]; which made 2 NaN of …

  Of several operations in a row, the first one whose result is not finite is named.

  ## When

  Operations are lazy, so a fault shows when a tensor is computed: whoever reads it, or anything that was
  made from it, gets the error. To find the line, compute at suspicious places with `Emily.eval/1`.

  ## What it costs

  For finite numbers, a look at each element of the results, and for bounds the words alone, since indices
  are looked at anyway. In both cases the operation's tensors are kept until its result was computed, which
  in a long chain that is computed at once may be much memory.
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
      assertions -> {:checked, %{op: operation, of: assertions}}
    end
  end
end
