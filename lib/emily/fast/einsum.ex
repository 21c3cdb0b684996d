defmodule Emily.Fast.Einsum do
  @moduledoc false
  # Products of tensors whose axes have names, two at a time from the left. A named axis is a letter; what an
  # ellipsis stands for are the axes `{:rest, 0}`, `{:rest, 1}`, … counted from the last one.

  @doc "As `Emily.Fast.einsum/2`."
  @spec apply(String.t(), [Nx.Tensor.t()]) :: Nx.Tensor.t()
  def apply(subscripts, tensors) do
    tensors = Enum.map(tensors, &Nx.to_tensor/1)
    {inputs, output} = parse!(subscripts, tensors)
    check_sizes!(subscripts, inputs, tensors)
    operands = [inputs, tensors] |> Enum.zip_with(&diagonal/1)

    {labels, tensor} =
      operands |> contract(output) |> keep(output)

    Nx.transpose(tensor, axes: for(label <- output, do: index(labels, label)))
  end

  defp parse!(subscripts, tensors) do
    {left, right} =
      case subscripts |> String.replace(" ", "") |> String.split("->") do
        [left] -> {left, nil}
        [left, right] -> {left, right}
        _more -> refuse(subscripts, "one arrow at most")
      end

    texts = String.split(left, ",")

    if length(texts) != length(tensors),
      do: refuse(subscripts, "as many lists of axes as tensors, which are #{length(tensors)}")

    inputs = for {text, tensor} <- Enum.zip(texts, tensors), do: labels!(subscripts, text, tensor)
    {inputs, output!(subscripts, right, inputs)}
  end

  defp labels!(subscripts, text, tensor) do
    rank = Nx.rank(tensor)

    labels =
      case String.split(text, "...") do
        [all] -> letters!(subscripts, all)
        [first, last] -> around(letters!(subscripts, first), letters!(subscripts, last), rank)
        _more -> refuse(subscripts, "one ellipsis a tensor")
      end

    if length(labels) != rank,
      do: refuse(subscripts, "#{inspect(text)} to name the #{rank} axes of its tensor")

    labels
  end

  defp around(first, last, rank) do
    count = rank - length(first) - length(last)
    first ++ rest(count) ++ last
  end

  defp rest(count), do: for(at <- count..1//-1, do: {:rest, at - 1})

  defp letters!(subscripts, text) do
    if text =~ ~r/^[a-zA-Z]*$/,
      do: String.graphemes(text),
      else: refuse(subscripts, "letters, commas, ellipses and an arrow")
  end

  defp output!(_subscripts, nil, inputs) do
    counts = inputs |> List.flatten() |> Enum.frequencies()
    once = for {letter, 1} <- counts, is_binary(letter), do: letter
    rests(inputs) ++ Enum.sort(once)
  end

  defp output!(subscripts, text, inputs) do
    labels =
      case String.split(text, "...") do
        [all] ->
          letters!(subscripts, all)

        [first, last] ->
          letters!(subscripts, first) ++ rests(inputs) ++ letters!(subscripts, last)

        _more ->
          refuse(subscripts, "one ellipsis in the result")
      end

    known = List.flatten(inputs)

    if labels != Enum.uniq(labels) or labels -- known != [],
      do: refuse(subscripts, "each axis of the result once, and in some tensor")

    labels
  end

  defp rests(inputs) do
    known = inputs |> List.flatten() |> Enum.filter(&is_tuple/1)
    known |> Enum.uniq() |> Enum.sort(:desc)
  end

  defp check_sizes!(subscripts, inputs, tensors) do
    Enum.zip(inputs, tensors)
    |> Enum.flat_map(fn {labels, tensor} -> Enum.zip(labels, Tuple.to_list(tensor.shape)) end)
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    |> Enum.each(fn {label, sizes} ->
      if length(Enum.uniq(sizes)) > 1 do
        name = if is_binary(label), do: "axis #{label}", else: "the axes of an ellipsis"
        refuse(subscripts, "#{name} to have one size, which are #{Enum.join(sizes, " and ")}")
      end
    end)
  end

  defp refuse(subscripts, what),
    do: raise(ArgumentError, "expected #{what} in the subscripts, got: #{inspect(subscripts)}")

  # Of axes with the same name the elements at equal places.
  defp diagonal([labels, tensor]) do
    case labels -- Enum.uniq(labels) do
      [] ->
        {labels, tensor}

      [twice | _others] ->
        first = index(labels, twice)
        second = first + 1 + (labels |> Enum.drop(first + 1) |> index(twice))
        shape = tensor.shape
        same = Nx.equal(Nx.iota(shape, axis: first), Nx.iota(shape, axis: second))
        zero = Nx.tensor(0, type: tensor.type)
        kept = Nx.select(same, tensor, zero) |> Nx.sum(axes: [second]) |> Nx.as_type(tensor.type)
        diagonal([List.delete_at(labels, second), kept])
    end
  end

  defp contract([operand], _output), do: operand

  defp contract([one, other | others], output) do
    needed = output ++ Enum.flat_map(others, &elem(&1, 0))
    contract([product(one, other, needed) | others], output)
  end

  defp product(one, {right, _y} = other, needed) do
    {left, x} = keep(one, needed ++ right)
    {right, y} = keep(other, needed ++ left)
    common = Enum.filter(left, &(&1 in right))
    {batch, sums} = Enum.split_with(common, &(&1 in needed))
    {left, x} = first(left, x, batch)
    {right, y} = first(right, y, batch)
    axes = Enum.to_list(0..(length(batch) - 1)//1)
    places = fn labels -> Enum.map(sums, &index(labels, &1)) end
    product = Nx.dot(x, places.(left), axes, y, places.(right), axes)
    {batch ++ ((left -- batch) -- sums) ++ ((right -- batch) -- sums), product}
  end

  # Nx wants the axes of a batch first.
  defp first(labels, tensor, batch) do
    order = batch ++ (labels -- batch)
    {order, Nx.transpose(tensor, axes: Enum.map(order, &index(labels, &1)))}
  end

  # Sums over what nobody asks for.
  defp keep({labels, tensor}, needed) do
    case labels -- Enum.filter(labels, &(&1 in needed)) do
      [] ->
        {labels, tensor}

      others ->
        axes = Enum.map(others, &index(labels, &1))
        {labels -- others, Nx.sum(tensor, axes: axes)}
    end
  end

  defp index(labels, label), do: Enum.find_index(labels, &(&1 == label))
end
