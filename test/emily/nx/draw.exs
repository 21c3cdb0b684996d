defmodule Emily.Nx.Draw do
  @moduledoc """
  Draws shapes, types, axes and tensors at random, and holds what Emily makes of them against
  `Nx.BinaryBackend`.

  All draws come from the process's generator, so that a seed makes a case again. Numbers are quarters
  between -4 and 4: every type but the smallest floats holds them, and sums of them, exactly.
  """

  import ExUnit.Assertions

  alias Nx.{BinaryBackend, Tensor}

  @unsigned [u: 8, u: 16, u: 32, u: 64]
  @signed [s: 8, s: 16, s: 32, s: 64]
  @floats [bf: 16, f: 16, f: 32, f: 64]

  # What two right computations may differ by: of the number, and at least.
  @tolerances %{
    {:f, 8} => {0.2, 0.1},
    {:f8_e4m3fn, 8} => {0.1, 0.1},
    {:bf, 16} => {3.0e-2, 2.0e-2},
    {:f, 16} => {5.0e-3, 4.0e-3},
    {:f, 32} => {2.0e-4, 2.0e-5},
    {:f, 64} => {1.0e-6, 1.0e-7},
    {:c, 64} => {2.0e-4, 2.0e-5}
  }

  @doc "One of a list."
  def pick(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)

  @doc "An integer from `low` to `high`."
  def between(low, high), do: low + :rand.uniform(high - low + 1) - 1

  def real_type, do: pick(@unsigned ++ @signed ++ @floats)
  def integer_type, do: pick(@unsigned ++ @signed)
  def float_type, do: pick(@floats)
  # Not f64, of which Nx makes c128 where a tensor is complex.
  def any_type, do: pick(@unsigned ++ @signed ++ [bf: 16, f: 16, f: 32, c: 64])

  @doc "A type of what is only moved: also those that MLX does not have."
  def moved_type,
    do: pick([any_type(), any_type(), pick(u: 2, u: 4, s: 2, s: 4, f: 8, f8_e4m3fn: 8, f: 64)])

  @doc "A shape of the given ranks, with axes of `sizes`."
  def shape(ranks \\ 0..4, sizes \\ 1..4) do
    for(_ <- 1..Enum.random(ranks)//1, do: Enum.random(sizes)) |> List.to_tuple()
  end

  @doc "A shape that broadcasts with `shape`."
  def alike(shape) do
    sizes = for size <- Tuple.to_list(shape), do: pick([size, size, 1])
    sizes |> Enum.drop(between(0, length(sizes))) |> List.to_tuple()
  end

  @doc "Some of the axes of a rank, in order; at least `least`."
  def axes(rank, least \\ 0),
    do: rank |> permutation() |> Enum.take(between(min(least, rank), rank)) |> Enum.sort()

  def permutation(rank), do: Enum.shuffle(Enum.to_list(0..(rank - 1)//1))

  @doc "A tensor of `Nx.BinaryBackend`."
  def tensor(shape, type) do
    data = for _ <- 1..Tuple.product(shape)//1, do: number(type)
    Nx.tensor(data, type: type, backend: BinaryBackend) |> Nx.reshape(shape)
  end

  @doc "Indices below `size`, of an integer type."
  def indices(shape, size) do
    data = for _ <- 1..Tuple.product(shape)//1, do: between(0, size - 1)

    Nx.tensor(data, type: pick(s: 32, s: 64, u: 8, u: 32), backend: BinaryBackend)
    |> Nx.reshape(shape)
  end

  defp number({:u, _}), do: between(0, 6)
  defp number({:s, _}), do: between(-6, 6)
  defp number({:c, _}), do: Complex.new(number({:f, 32}), number({:f, 32}))
  defp number(_float), do: between(-16, 16) / 4

  @doc """
  Applies `fun` to the tensors as they are and as Emily's, and compares.

  A case that BinaryBackend itself fails at says nothing. Returns whether it said something.
  """
  def agree(what, tensors, fun) do
    case attempt(BinaryBackend, tensors, fun) do
      {:ok, expected} ->
        same!(what, tensors, expected, attempt(Emily.Backend, tensors, fun))
        true

      {:error, _kind, _text} ->
        false
    end
  end

  defp attempt(backend, tensors, fun) do
    Nx.default_backend(backend)
    tensors = Enum.map(tensors, &Nx.backend_copy(&1, backend))
    # Copied back here, since what is lazy fails late.
    {:ok, tensors |> fun.() |> results() |> Enum.map(&{&1, Nx.backend_copy(&1, BinaryBackend)})}
  rescue
    error -> {:error, error.__struct__, Exception.message(error)}
  end

  defp results(result) when is_tuple(result) and not is_struct(result), do: Tuple.to_list(result)
  defp results(result), do: [result]

  defp same!(what, tensors, _expected, {:error, kind, text}),
    do: flunk("#{said(what, tensors)}\nexpected a result, got #{inspect(kind)}: #{text}")

  defp same!(what, tensors, expected, {:ok, actual}) do
    assert length(actual) == length(expected)

    for {{_, expected}, {own, actual}} <- Enum.zip(expected, actual) do
      assert %Tensor{data: %Emily.Backend{}} = own
      kinds = &{&1.type, &1.shape, &1.names, &1.vectorized_axes}

      assert kinds.(actual) == kinds.(expected), said(what, tensors)

      unless close?(expected, actual) do
        flunk("#{said(what, tensors)}\nexpected: #{inspect(expected)}\ngot: #{inspect(actual)}")
      end
    end
  end

  defp said(what, tensors), do: "#{inspect(what)} of #{inspect(tensors, limit: 200)}"

  defp close?(expected, actual) do
    tolerance = @tolerances[expected.type]

    Enum.zip(Nx.to_flat_list(expected), Nx.to_flat_list(actual))
    |> Enum.all?(fn {one, other} -> near?(one, other, tolerance) end)
  end

  defp near?(one, one, _tolerance), do: true

  defp near?(%Complex{} = one, %Complex{} = other, tolerance),
    do: near?(one.re, other.re, tolerance) and near?(one.im, other.im, tolerance)

  defp near?(one, other, {relative, absolute}) when is_number(one) and is_number(other),
    do: abs(one - other) <= relative * abs(one) + absolute

  defp near?(_one, _other, _tolerance), do: false
end
