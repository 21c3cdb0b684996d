defmodule Emily.Compiler.Reduction do
  @moduledoc false
  # `Nx.reduce/4` and `Nx.window_reduce/5` with functions that are no programs of elementwise operations.
  #
  # They become a loop, which calls the function in the order in which `Nx.BinaryBackend` does, so that it
  # need not be associative. `Nx.reduce/4` is taken as one with windows that are as large as the reduced
  # axes. Where the function can be had for many scalars at once (`Lanes`), a round takes one place of all
  # windows, and carries an accumulator for each of them. Where it cannot, as it calls Elixir, sorts, or
  # indexes, a round takes one element.

  alias Emily.Compiler.{Lanes, Loop, Scope}
  alias Emily.{Native, Operation}
  alias Nx.Defn.{Expr, Tree}
  alias Nx.Tensor, as: T

  @counter {:s, 64}

  # The number of the tensor with its padding and the axes of its windows, each with the size of a window,
  # the steps from element to element and from window to window, and the number of windows.
  defstruct [:tensor, :type, :places, :windows, axes: []]

  @typedoc "Gives the numbers of a container of nodes."
  @type lower :: (Nx.Container.t(), Loop.acc() -> {[integer()], Loop.acc()})

  @doc """
  Adds the reduction whose node has these arguments; returns the number of its result, of the type `out`.
  """
  @spec add(:reduce | :window_reduce, [term()], Native.out(), lower(), Loop.acc()) ::
          {integer(), Loop.acc()}
  def add(op, [tensor, start | arguments], {type, dims}, lower, acc) do
    %T{data: %Expr{op: :fun, args: [_parameters, body, _mfa]}} = List.last(arguments)
    {[tensor_number, start], acc} = lower.({tensor, start}, acc)
    {tensor_number, acc} = as_type(tensor_number, type, acc)
    {start, acc} = as_type(start, type, acc)
    {windows, acc} = windows(op, arguments, {tensor, tensor_number, type}, start, acc)
    many = [windows.windows]
    {accumulators, acc} = put({:broadcast, %{axes: []}}, {type, many}, [start], acc)

    {accumulators, acc} =
      try do
        at_once(op, windows, body, accumulators, lower, acc)
      catch
        {:apart, _what} -> one_by_one(op, windows, body, accumulators, lower, acc)
      end

    put(:reshape, {type, dims}, [accumulators], acc)
  end

  ## Where the windows lie

  defp windows(:reduce, [options, _fun], {tensor, number, type}, _start, acc) do
    axes = options[:axes] || Nx.axes(tensor)

    axes =
      for axis <- Nx.axes(tensor), size = Nx.axis_size(tensor, axis) do
        if axis in axes, do: {size, 1, 1, 1}, else: {1, 1, 1, size}
      end

    spread(axes, number, Tuple.to_list(tensor.shape), type, acc)
  end

  defp windows(:window_reduce, [window, options, _fun], {tensor, number, type}, start, acc) do
    padding = for {low, high} <- options[:padding], do: {low, high, 0}
    sizes = Tuple.to_list(tensor.shape)
    padded = Enum.zip_with(sizes, padding, fn size, {low, high, _} -> low + size + high end)
    {operation, _inputs} = Operation.split(:pad, [tensor, tensor, padding])
    {number, acc} = put(operation, {type, padded}, [number, start], acc)

    axes =
      Enum.zip_with(
        [padded, Tuple.to_list(window), options[:window_dilations], options[:strides]],
        fn [size, window, dilation, stride] ->
          {window, dilation, stride, div(size - ((window - 1) * dilation + 1), stride) + 1}
        end
      )

    spread(axes, number, padded, type, acc)
  end

  # A scalar has one window of one element.
  defp spread([], number, [], type, acc) do
    {number, acc} = put(:reshape, {type, [1]}, [number], acc)
    spread([{1, 1, 1, 1}], number, [1], type, acc)
  end

  defp spread(axes, number, _sizes, type, acc) do
    places = axes |> Enum.map(&elem(&1, 0)) |> Enum.product()
    windows = axes |> Enum.map(&elem(&1, 3)) |> Enum.product()
    {%__MODULE__{tensor: number, type: type, axes: axes, places: places, windows: windows}, acc}
  end

  ## The loops

  defp at_once(op, windows, body, accumulators, lower, acc) do
    rounds(op, windows.places, [accumulators, windows.tensor], acc, fn round,
                                                                       [old, tensor],
                                                                       acc ->
      {offsets, acc} = coordinates(round, places(windows), acc)
      lengths = for {_, _, stride, count} <- windows.axes, do: (count - 1) * stride + 1
      strides = for {_, _, stride, _} <- windows.axes, do: stride
      {starts, acc} = offsets |> Enum.zip(windows.axes) |> Enum.map_reduce(acc, &place/2)
      counts = for {_, _, _, count} <- windows.axes, do: count
      slice = {:dynamic_slice, %{lengths: lengths, strides: strides}}
      {elements, acc} = put(slice, {windows.type, counts}, [tensor | starts], acc)
      {elements, acc} = put(:reshape, {windows.type, [windows.windows]}, [elements], acc)
      {result, acc} = Lanes.call(body, [elements, old], windows.windows, lower, acc)
      as_type(result, windows.type, acc)
    end)
  end

  defp one_by_one(op, windows, body, accumulators, lower, acc) do
    count = windows.places * windows.windows

    rounds(op, count, [accumulators, windows.tensor], acc, fn round, [old, tensor], acc ->
      {[window, place], acc} = coordinates(round, [windows.windows, windows.places], acc)
      {offsets, acc} = coordinates(place, places(windows), acc)
      counts = for {_, _, _, count} <- windows.axes, do: count
      {anchors, acc} = coordinates(window, counts, acc)

      {starts, acc} =
        [offsets, anchors, windows.axes] |> Enum.zip() |> Enum.map_reduce(acc, &element/2)

      {element, acc} = one(tensor, starts, windows.type, acc)
      {accumulator, acc} = one(old, [window], windows.type, acc)
      {result, acc} = call(body, [element, accumulator], lower, acc)
      {result, acc} = as_type(result, windows.type, acc)
      {result, acc} = put(:reshape, {windows.type, [1]}, [result], acc)
      put(:dynamic_put_slice, {windows.type, [windows.windows]}, [old, result, window], acc)
    end)
  end

  defp places(windows), do: for({size, _, _, _} <- windows.axes, do: size)

  defp place({offset, {_, dilation, _, _}}, acc), do: times(offset, dilation, acc)

  defp element({offset, anchor, {_, dilation, stride, _}}, acc) do
    {offset, acc} = times(offset, dilation, acc)
    {anchor, acc} = times(anchor, stride, acc)
    count(:add, [offset, anchor], acc)
  end

  defp one(tensor, starts, type, acc) do
    ones = Enum.map(starts, fn _start -> 1 end)
    slice = {:dynamic_slice, %{lengths: ones, strides: ones}}
    {element, acc} = put(slice, {type, ones}, [tensor | starts], acc)
    put(:reshape, {type, []}, [element], acc)
  end

  # The function's own nodes, as those of a block with these arguments.
  defp call(body, arguments, lower, {scope, state}) do
    given = arguments |> Enum.with_index(&{&2, &1}) |> Map.new()
    inner = %{scope | blocks: [given | scope.blocks], ids: Tree.scope_ids(body)}
    {[number], {inner, state}} = lower.(body, {inner, state})
    {number, {%{inner | blocks: scope.blocks, ids: scope.ids}, state}}
  end

  # A loop of `count` rounds that carries an accumulator; `body` gets the number of the round's count, and
  # those of the accumulator and of what the loop uses besides.
  defp rounds(op, count, [accumulator | used], acc, body) do
    {first, acc} = number(0, acc)

    condition = fn [round, _old], acc ->
      {count, acc} = number(count, acc)
      {flag, acc} = put(:less, {{:u, 8}, []}, [round, count], acc)
      {[flag], acc}
    end

    step = fn [round, old], {scope, state} ->
      {used, scope} = Enum.map_reduce(used, scope, &Scope.capture(&2, &1))
      {new, acc} = body.(round, [old | used], {scope, state})
      {one, acc} = number(1, acc)
      {next, acc} = count(:add, [round, one], acc)
      {[next, new], acc}
    end

    {[_rounds, result], acc} = Loop.add(op, [first, accumulator], condition, step, acc)
    {result, acc}
  end

  ## Counting

  # Where the `number`th element lies in a tensor of these sizes.
  defp coordinates(number, sizes, acc) do
    all = Enum.product(sizes)

    {coordinates, {_step, acc}} =
      Enum.map_reduce(sizes, {all, acc}, fn size, {within, acc} ->
        {coordinate, acc} = coordinate(number, size, {within, all}, acc)
        {coordinate, {div(within, size), acc}}
      end)

    {coordinates, acc}
  end

  defp coordinate(_number, 1, _within, acc), do: number(0, acc)

  defp coordinate(number, size, {within, all}, acc) do
    {number, acc} = by(:quotient, number, div(within, size), acc)
    if within == all, do: {number, acc}, else: by(:remainder, number, size, acc)
  end

  defp times(number, factor, acc), do: by(:multiply, number, factor, acc)

  defp by(op, number, 1, acc) when op in [:quotient, :multiply], do: {number, acc}

  defp by(op, number, other, acc) do
    {other, acc} = number(other, acc)
    count(op, [number, other], acc)
  end

  defp number(value, acc) do
    {operation, []} = Operation.split(:constant, [value])
    count(operation, [], acc)
  end

  defp count(operation, inputs, acc), do: put(operation, {@counter, []}, inputs, acc)

  defp as_type(number, type, {scope, _state} = acc) do
    case Map.fetch!(scope.types, number) do
      {^type, _dims} -> {number, acc}
      {_other, dims} -> put(:as_type, {type, dims}, [number], acc)
    end
  end

  defp put(operation, out, inputs, {scope, state}) do
    {[number], scope} = Scope.instruction(scope, operation, [out], inputs)
    {number, {scope, state}}
  end
end
