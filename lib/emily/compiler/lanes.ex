defmodule Emily.Compiler.Lanes do
  @moduledoc false
  # A function of scalars, called on many at once: each value gets one more axis, the first, with a lane
  # for each call.
  #
  # A `cond` computes all of its branches and selects. A `while` goes on until no lane asks for another
  # round; lanes that are done, and lanes that are not in the branch in which it stands, keep what they
  # have, so that they cannot make it go on for ever.

  alias Emily.Compiler.{Loop, Reduction, Scope}
  alias Emily.Operation
  alias Nx.Defn.{Composite, Expr}
  alias Nx.Tensor, as: T

  # `given` are the numbers of the parameters, by position. `masks` are those of the lanes that count, the
  # innermost first; what is computed for all lanes is good for some of them.
  defstruct [:count, :lower, given: %{}, masks: [nil]]

  @reductions [:sum, :product, :reduce_max, :reduce_min, :all, :any]
  @creation [:iota, :eye, :tensor]

  @doc """
  Adds what computes `body` of arguments with `count` lanes; returns the number of the result.

  Throws `{:apart, what}` if it holds something that has no lanes.
  """
  @spec call(T.t(), [integer()], pos_integer(), Reduction.lower(), Loop.acc()) ::
          {integer(), Loop.acc()}
  def call(body, arguments, count, lower, acc) do
    given = arguments |> Enum.with_index(&{&2, &1}) |> Map.new()
    {[number], acc} = numbers(body, %__MODULE__{count: count, lower: lower, given: given}, acc)
    {number, acc}
  end

  # The numbers of all leaves of a container.
  defp numbers(container, lanes, acc) do
    [container] |> Composite.flatten_list() |> Enum.map_reduce(acc, &value(&1, lanes, &2))
  end

  defp value(node, lanes, acc) do
    case values(node, lanes, acc) do
      {[number], acc} -> {number, acc}
      {_several, _acc} -> throw({:apart, :tuple})
    end
  end

  # The numbers of a node that may give several values.
  defp values(%T{data: %Expr{id: id, op: op, args: args}} = node, lanes, {scope, _state} = acc) do
    case Enum.find_value(lanes.masks, &scope.known[{:lanes, &1, id}]) do
      nil ->
        {numbers, {scope, state}} = node(op, args, node, lanes, acc)
        numbers = List.wrap(numbers)
        {numbers, {Scope.know(scope, {:lanes, hd(lanes.masks), id}, numbers), state}}

      numbers ->
        {numbers, acc}
    end
  end

  defp values(number, lanes, acc) when is_integer(number),
    do: constant(number, {{:s, 64}, []}, lanes, acc)

  ## Nodes that are no operations

  defp node(:parameter, [position], _node, lanes, acc),
    do: {Map.fetch!(lanes.given, position), acc}

  defp node(:metadata, [expression, _metadata], _node, lanes, acc),
    do: numbers(expression, lanes, acc)

  defp node(:constant, [number], node, lanes, acc), do: constant(number, type(node), lanes, acc)

  # What is the same for all lanes.
  defp node(op, _arguments, node, lanes, acc) when op in @creation do
    {[number], acc} = lanes.lower.(node, acc)
    {_type, dims} = type(node)
    put({:broadcast, %{axes: axes(dims)}}, type(node), [number], lanes, acc)
  end

  defp node(:elem, [tuple, position], _node, lanes, acc) do
    {numbers, acc} = values(tuple, lanes, acc)
    {Enum.at(numbers, position), acc}
  end

  defp node(:block, [block, arguments, default, _callback], node, lanes, acc) do
    with {operation, inputs} <- Operation.block(block, arguments),
         true <- Operation.elementwise?(name(operation)) do
      elementwise(operation, inputs, type(node), lanes, acc)
    else
      _by_default ->
        tensors = Enum.take_while(arguments, &(not is_list(&1)))
        {inputs, acc} = Enum.map_reduce(tensors, acc, &value(&1, lanes, &2))
        numbers(default, %{lanes | given: inputs |> Enum.with_index(&{&2, &1}) |> Map.new()}, acc)
    end
  end

  defp node(:cond, [clauses, last], _node, lanes, acc) do
    {chosen, {rest, acc}} =
      Enum.map_reduce(clauses, {lanes, acc}, fn {predicate, body}, {lanes, acc} ->
        {predicate, acc} = value(predicate, lanes, acc)
        {inside, acc} = masked(lanes, predicate, acc)
        {results, acc} = numbers(body, inside, acc)
        {other, acc} = put(:logical_not, {{:u, 8}, []}, [predicate], lanes, acc)
        {outside, acc} = masked(lanes, other, acc)
        {{predicate, results}, {outside, acc}}
      end)

    {last, acc} = numbers(last, rest, acc)

    chosen
    |> Enum.reverse()
    |> Enum.reduce({last, acc}, fn {predicate, results}, {others, acc} ->
      selected(predicate, results, others, lanes, acc)
    end)
  end

  defp node(:while, [initial, _parameters, condition, body], _node, lanes, acc) do
    {initial, acc} = numbers(initial, lanes, acc)
    mask = hd(lanes.masks)

    asked = fn carried, {scope, state} ->
      inner = %{lanes | given: carried |> Enum.with_index(&{&2, &1}) |> Map.new(), masks: [nil]}
      {flag, acc} = value(condition, inner, {scope, state})
      {inner, acc} = if mask, do: masked(inner, capture(mask), acc), else: {inner, acc}
      masked(inner, flag, acc)
    end

    goes_on = fn carried, acc ->
      {%{masks: [mask | _]}, {scope, state}} = asked.(carried, acc)
      any = {:any, %{axes: nil, keep_axes: false}}
      {[flag], scope} = Scope.instruction(scope, any, [{{:u, 8}, []}], [mask])
      {[flag], {scope, state}}
    end

    step = fn carried, acc ->
      {%{masks: [mask | _]} = inner, acc} = asked.(carried, acc)
      {next, acc} = numbers(body, inner, acc)
      selected(mask, next, carried, lanes, acc)
    end

    Loop.add(:while, initial, goes_on, step, acc)
  end

  ## Operations

  # Its bounds are scalars elsewhere.
  defp node(:clip, [tensor, least, most], node, lanes, acc) do
    {[tensor, least, most], acc} = aligned([tensor, least, most], type(node), lanes, acc)
    {at_least, acc} = put(:max, type(node), [tensor, least], lanes, acc)
    put(:min, type(node), [at_least, most], lanes, acc)
  end

  defp node(op, [tensor | _options] = arguments, node, lanes, acc)
       when op in [:reshape, :squeeze] do
    {operation, _inputs} = Operation.split(op, arguments)
    moved(operation, tensor, node, lanes, acc)
  end

  defp node(op, [tensor | arguments], node, lanes, acc) when op in [:broadcast, :transpose] do
    {others, [axes]} = Enum.split(arguments, -1)
    axes = [0 | Enum.map(axes, &(&1 + 1))]
    {operation, _inputs} = Operation.split(op, [tensor | others] ++ [axes])
    moved(operation, tensor, node, lanes, acc)
  end

  defp node(:reverse, [tensor, axes], node, lanes, acc),
    do: moved({:reverse, %{axes: Enum.map(axes, &(&1 + 1))}}, tensor, node, lanes, acc)

  defp node(:slice, [tensor, starts, lengths, strides], node, lanes, acc) do
    if not Enum.all?(starts, &is_integer/1), do: throw({:apart, :slice})
    whole = %{tensor | shape: Tuple.insert_at(tensor.shape, 0, lanes.count)}
    arguments = [whole, [0 | starts], [lanes.count | lengths], [1 | strides]]
    {operation, _inputs} = Operation.split(:slice, arguments)
    moved(operation, tensor, node, lanes, acc)
  end

  defp node(op, [tensor, options], node, lanes, acc) when op in @reductions do
    axes = for axis <- options[:axes] || Nx.axes(tensor), do: axis + 1
    {operation, _inputs} = Operation.split(op, [tensor, Keyword.put(options, :axes, axes)])
    moved(operation, tensor, node, lanes, acc)
  end

  defp node(op, [tensors, axis], node, lanes, acc) when op in [:concatenate, :stack] do
    {inputs, acc} = Enum.map_reduce(tensors, acc, &value(&1, lanes, &2))
    put({op, %{axis: axis + 1}}, type(node), inputs, lanes, acc)
  end

  defp node(op, arguments, node, lanes, acc) do
    if not Operation.elementwise?(op), do: throw({:apart, op})
    {operation, inputs} = Operation.split(op, arguments)
    elementwise(operation, inputs, type(node), lanes, acc)
  end

  defp moved(operation, tensor, node, lanes, acc) do
    {number, acc} = value(tensor, lanes, acc)
    put(operation, type(node), [number], lanes, acc)
  end

  defp elementwise(operation, inputs, out, lanes, acc) do
    {inputs, acc} = aligned(inputs, out, lanes, acc)
    put(operation, out, inputs, lanes, acc)
  end

  # Inputs broadcast from their last axis on, and the lanes are the first.
  defp aligned(inputs, out, lanes, acc) do
    Enum.map_reduce(inputs, acc, fn input, acc ->
      {number, acc} = value(input, lanes, acc)
      align(number, out, lanes, acc)
    end)
  end

  defp align(number, {_type, dims}, lanes, {scope, _state} = acc) do
    {type, [_lanes | own]} = Map.fetch!(scope.types, number)
    missing = List.duplicate(1, length(dims) - length(own))

    if missing == [] or (own == [] and dims == []),
      do: {number, acc},
      else: put(:reshape, {type, missing ++ own}, [number], lanes, acc)
  end

  ## Which lanes count

  # Also those of what is around the loop, which is one more input of its programs.
  defp capture(mask), do: {:around, mask}

  defp masked(lanes, {:around, mask}, {scope, state}) do
    {mask, scope} = Scope.capture(scope, mask)
    masked(lanes, mask, {scope, state})
  end

  defp masked(%{masks: [nil | _]} = lanes, predicate, acc),
    do: {%{lanes | masks: [predicate | lanes.masks]}, acc}

  defp masked(%{masks: [mask | _]} = lanes, predicate, acc) do
    {both, acc} = put(:logical_and, {{:u, 8}, []}, [mask, predicate], lanes, acc)
    {%{lanes | masks: [both | lanes.masks]}, acc}
  end

  # Each of the first where the predicate is not zero, else that of the others.
  defp selected(predicate, results, others, lanes, acc) do
    results
    |> Enum.zip(others)
    |> Enum.map_reduce(acc, fn {result, other}, {scope, _state} = acc ->
      {type, [_lanes | dims]} = Map.fetch!(scope.types, other)
      {flag, acc} = align(predicate, {type, dims}, lanes, acc)
      put(:select, {type, dims}, [flag, result, other], lanes, acc)
    end)
  end

  ## Instructions

  defp constant(number, out, lanes, acc) do
    {operation, []} = Operation.split(:constant, [number])
    {number, acc} = put(operation, out, [], lanes, acc)
    {List.wrap(number), acc}
  end

  defp put(operation, {type, dims}, inputs, lanes, {scope, state}) do
    {[number], scope} =
      Scope.instruction(scope, operation, [{type, [lanes.count | dims]}], inputs)

    {number, {scope, state}}
  end

  defp axes(dims), do: dims |> Enum.with_index(1) |> Enum.map(&elem(&1, 1))

  defp name({:checked, %{op: operation}}), do: name(operation)
  defp name({name, _attributes}), do: name
  defp name(name), do: name

  defp type(%T{type: {:c, 128}}), do: throw({:apart, :c128})

  defp type(%T{type: type, shape: shape, vectorized_axes: axes}),
    do: {type, Keyword.values(axes) ++ Tuple.to_list(shape)}
end
