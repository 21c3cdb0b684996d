defmodule Emily.Reducer.Fold do
  @moduledoc """
  Reductions with functions that no program of elementwise operations can say.

  The function is called with vectorized tensors, each time on as many pairs of elements as there are,
  so it is called about as often as the logarithm of their number says, and what it does stays on the
  device. As in the native core, the later elements come first and the accumulator last, and windows
  of common sizes are gone through one element after another, as Nx does not ask that a function of
  theirs is associative.
  """

  alias Nx.Tensor, as: T

  @in_order 256

  @doc """
  Reduces `axes` of `tensor`; the result has the type and shape of `out`.
  """
  @spec reduce(T.t(), T.t(), T.t(), [non_neg_integer()] | nil, fun()) :: T.t()
  def reduce(out, tensor, acc, axes, fun) do
    all = Nx.axes(tensor)
    reduced = axes || all
    kept = all -- reduced
    size = fn axes -> axes |> Enum.map(&Nx.axis_size(tensor, &1)) |> Enum.product() end

    tensor
    |> plain()
    |> Nx.transpose(axes: reduced ++ kept)
    |> Nx.reshape({size.(reduced), size.(kept)})
    |> rows(acc, out, fun)
  end

  @doc """
  Reduces each window of `tensor`, padded with `acc`; the result has the type and shape of `out`.
  """
  @spec window_reduce(T.t(), T.t(), T.t(), tuple(), keyword(), fun()) :: T.t()
  def window_reduce(out, tensor, acc, window, options, fun) do
    padding = for {low, high} <- options[:padding], do: {low, high, 0}
    padded = tensor |> plain() |> Nx.pad(acc, padding)
    strides = options[:strides]

    # A slice for each place in a window, of that place in all windows.
    lengths = Enum.zip_with(Tuple.to_list(out.shape), strides, &((&1 - 1) * &2 + 1))

    places =
      for place <- places(Tuple.to_list(window)) do
        starts = Enum.zip_with(place, options[:window_dilations], &*/2)
        padded |> Nx.slice(starts, lengths, strides: strides) |> Nx.flatten()
      end

    if length(places) <= @in_order do
      places |> in_order(acc, out.type, fun) |> Nx.reshape(out)
    else
      places |> Nx.stack() |> rows(acc, out, fun)
    end
  end

  defp in_order([first | _others] = places, acc, type, fun) do
    acc = acc |> Nx.as_type(type) |> Nx.broadcast(first.shape)
    Enum.reduce(places, acc, &call(fun, &1, &2, type))
  end

  defp places([]), do: [[]]

  defp places([size | sizes]),
    do: for(at <- 0..(size - 1), rest <- places(sizes), do: [at | rest])

  defp plain(tensor), do: %{tensor | names: List.duplicate(nil, Nx.rank(tensor))}

  defp rows(tensor, acc, out, fun) do
    tensor
    |> one_row(acc, out.type, fun)
    |> Nx.as_type(out.type)
    |> Nx.reshape(out)
  end

  defp one_row(tensor, acc, type, fun) do
    case tensor.shape do
      {0, width} -> Nx.broadcast(acc, {1, width})
      {1, _width} -> call(fun, tensor, acc, type)
      {count, _width} -> tensor |> halved(count, type, fun) |> one_row(acc, type, fun)
    end
  end

  defp halved(tensor, count, type, fun) do
    half = div(count, 2)
    pairs = Nx.reshape(tensor[0..(2 * half - 1)], {half, 2, Nx.axis_size(tensor, 1)})
    halved = call(fun, pairs[[.., 1]], pairs[[.., 0]], type)
    if rem(count, 2) == 0, do: halved, else: Nx.concatenate([halved, tensor[-1..-1//1]])
  end

  defp call(fun, element, acc, type) do
    result =
      element
      |> elements(type)
      |> fun.(elements(acc, type))
      |> Nx.devectorize()
      |> Nx.as_type(type)

    if Nx.size(result) == Nx.size(element),
      do: Nx.reshape(result, element.shape),
      else: Nx.broadcast(result, element.shape)
  end

  defp elements(%T{shape: {}} = scalar, type), do: Nx.as_type(scalar, type)
  defp elements(t, type), do: t |> Nx.as_type(type) |> Nx.flatten() |> Nx.vectorize(:element)
end
