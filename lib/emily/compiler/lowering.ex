defmodule Emily.Compiler.Lowering do
  @moduledoc false
  # Expressions of `Nx.Defn` as programs of the native core.
  #
  # `program/2` goes through the graph once. Each node becomes the instructions of the program that
  # it belongs to: the outermost one, a branch of a `cond`, or the condition or the body of a `while`.
  # Functions of Elixir become calls, numbered in the order in which they are met.

  alias Emily.Compiler.{Call, Loop, Reduction, Scope}
  alias Emily.{Operation, Reducer}
  alias Nx.Defn.{Composite, Expr, Tree}
  alias Nx.Tensor, as: T

  @typedoc """
  A program, what its inputs are, in order, and the functions that it calls.

  An input is a position among the function's parameters, or a tensor that the function holds.
  """
  @type lowered :: %{
          program: Emily.Native.program(),
          inputs: [{:parameter, non_neg_integer()} | {:constant, T.t()}],
          calls: [Call.t()]
        }

  @doc """
  The program of a container of expressions; `hooks` are the callbacks of named hooks.

  Returns `{:error, construct, reason}` if it holds what the core cannot compute.
  """
  @spec program(Nx.Container.t(), %{optional(atom()) => (term() -> term())}) ::
          {:ok, lowered()} | {:error, atom(), String.t()}
  def program(expression, hooks) do
    state = %{hooks: hooks, calls: [], constants: %{}}
    scope = Scope.new(nil, Tree.scope_ids(expression))
    {outputs, {scope, state}} = numbers(expression, {scope, state})

    {:ok,
     %{
       program: Scope.close(scope, outputs),
       inputs: for(key <- Scope.parameters(scope), do: input(key, state)),
       calls: Enum.reverse(state.calls)
     }}
  catch
    {:unsupported, construct, reason} -> {:error, construct, reason}
  end

  defp input({:constant, id}, state), do: {:constant, Map.fetch!(state.constants, id)}
  defp input(position, _state), do: {:parameter, position}

  # The numbers of all leaves of a container.
  defp numbers(container, acc) do
    [container] |> Composite.flatten_list() |> Enum.map_reduce(acc, &value/2)
  end

  # The number of a node's value, once the instructions for it are there.
  defp value(%T{data: %Expr{}} = node, acc) do
    {number, acc} = values(node, acc)
    true = is_integer(number)
    {number, acc}
  end

  defp value(integer, acc) when is_integer(integer), do: constant(integer, {{:s, 64}, []}, acc)

  # The same of a node that may give several values.
  defp values(%T{data: %Expr{op: :metadata, args: [expression, _metadata]}}, acc) do
    case numbers(expression, acc) do
      {[number], acc} when is_struct(expression, T) -> {number, acc}
      {numbers, acc} -> {{:several, numbers}, acc}
    end
  end

  defp values(%T{data: %Expr{id: id, op: op}} = node, {scope, state} = acc) do
    case scope do
      %{known: %{^id => numbers}} ->
        {numbers, acc}

      %{parent: nil} ->
        computed(node, acc)

      # Constants have the same identity everywhere, and are cheap.
      _inner when op == :constant ->
        computed(node, acc)

      %{parent: parent} ->
        if outer?(scope, id, op) do
          {numbers, {parent, state}} = values(node, {parent, state})
          captured(numbers, {%{scope | parent: parent}, state})
        else
          computed(node, acc)
        end
    end
  end

  # Whether a node belongs to the program around this one: tensors that the function holds are inputs of
  # the outermost one, and what a `cond` does not compute alone is computed before it.
  defp outer?(_scope, _id, :tensor), do: true
  defp outer?(%{kind: :closed}, _id, _op), do: false
  defp outer?(%{blocks: [_ | _]}, _id, :parameter), do: false
  defp outer?(_branch, _id, :parameter), do: true
  defp outer?(%{parent: parent}, id, _op), do: Scope.owns?(parent, id)

  defp captured({:several, numbers}, {scope, state}) do
    {numbers, scope} = Enum.map_reduce(numbers, scope, &Scope.capture(&2, &1))
    {{:several, numbers}, {scope, state}}
  end

  defp captured(number, {scope, state}) do
    {number, scope} = Scope.capture(scope, number)
    {number, {scope, state}}
  end

  defp computed(%T{data: %Expr{id: id, op: op, args: args}} = node, acc) do
    {numbers, {scope, state}} = node(op, args, node, acc)
    {numbers, {Scope.know(scope, id, numbers), state}}
  end

  ## Nodes that are no operations

  defp node(:parameter, [position], node, {scope, state}) do
    case scope.blocks do
      [arguments | _around] ->
        {Map.get_lazy(arguments, position, fn -> raise "no argument #{position}" end),
         {scope, state}}

      [] ->
        {number, scope} = Scope.parameter(scope, position, type(node))
        {number, {scope, state}}
    end
  end

  defp node(:constant, [number], node, acc), do: constant(number, type(node), acc)

  # What loops count with is best known as a number.
  defp node(:tensor, [%T{shape: {}, type: {kind, _}, data: %Nx.BinaryBackend{}} = scalar], _, acc)
       when kind in [:s, :u],
       do: constant(Nx.to_number(scalar), type(scalar), acc)

  defp node(:tensor, [tensor], %T{data: %Expr{id: id}} = node, {scope, state}) do
    {number, scope} = Scope.parameter(scope, {:constant, id}, type(node))
    {number, {scope, put_in(state.constants[id], tensor)}}
  end

  defp node(:elem, [tuple, position], _node, acc) do
    {{:several, numbers}, acc} = values(tuple, acc)
    {Enum.at(numbers, position), acc}
  end

  defp node(:cond, [clauses, last], node, acc) do
    {programs, acc} =
      Enum.flat_map_reduce(clauses, {nil, acc}, fn {predicate, body}, {before, acc} ->
        {predicate, before, acc} = branch(predicate, before, acc)
        {body, before, acc} = branch(body, before, acc)
        {[predicate, body], {before, acc}}
      end)

    {before, acc} = acc
    {last, before, {scope, state}} = branch(last, before, acc)
    captures = Scope.captures(before)
    types = Enum.map(captures, &Map.fetch!(scope.types, &1))
    close = fn {branch, outputs} -> Scope.close(branch, outputs, types) end

    clauses =
      for [predicate, body] <- Enum.chunk_every(programs, 2),
          do: %{predicate: close.(predicate), body: close.(body)}

    step = {:cond, %{clauses: clauses, last: close.(last)}}
    outs = last |> elem(1) |> Enum.map(&Map.fetch!(elem(last, 0).types, &1))
    instruction(step, outs, captures, node, {scope, state})
  end

  defp node(:while, [initial, _parameters, condition, body], node, acc) do
    {initial, acc} = numbers(initial, acc)

    part = fn expression ->
      fn _carried, {start, state} ->
        numbers(expression, {%{start | ids: Tree.scope_ids(expression)}, state})
      end
    end

    {numbers, acc} = Loop.add(:while, initial, part.(condition), part.(body), acc)
    {one_or_several(numbers, node), acc}
  end

  defp node(:block, [block, arguments, default, _callback], node, acc) do
    case Operation.block(block, arguments) do
      :unknown ->
        inline(default, arguments, node, acc)

      {operation, inputs} ->
        {inputs, acc} = Enum.map_reduce(inputs, acc, &value/2)
        outs = for out <- Composite.flatten_list([default]), do: type(out)
        instruction(operation, outs, inputs, node, acc)
    end
  end

  defp node(:io_call, [expression, callback, template, _ref], node, {scope, state}) do
    {numbers, {scope, state}} = numbers(expression, {scope, state})

    {scope, state} =
      case hook(callback, state.hooks) do
        nil -> {scope, state}
        fun -> call(%Call{kind: :hook, fun: fun, template: template}, [], numbers, scope, state)
      end

    {one_or_several(numbers, node), {scope, state}}
  end

  defp node(:runtime_call, [expression, fun, result, options], node, acc) do
    {inputs, {scope, state}} = numbers(expression, acc)
    template = Composite.traverse(expression, &Nx.to_template/1)
    outs = for out <- Composite.flatten_list([result]), do: type(out)

    call = %Call{
      kind: :runtime_call,
      fun: fun,
      options: options,
      template: template,
      result: result
    }

    first = scope.given
    {scope, state} = call(call, outs, inputs, scope, state)
    numbers = Enum.to_list(first..(first + length(outs) - 1)//1)
    {one_or_several(numbers, node), {scope, state}}
  end

  ## Operations

  defp node(op, arguments, node, acc) when op in [:reduce, :window_reduce] do
    fun = List.last(arguments)

    case Reducer.trace(fun, node.type) do
      {:ok, program} ->
        {operation, inputs} = Operation.split(op, List.replace_at(arguments, -1, program))
        {inputs, acc} = Enum.map_reduce(inputs, acc, &value/2)
        instruction(operation, [type(node)], inputs, node, acc)

      {:error, _reason} ->
        Reduction.add(op, arguments, type(node), &numbers/2, acc)
    end
  end

  defp node(op, arguments, node, acc) do
    {operation, inputs} = Operation.split(op, arguments)
    {inputs, acc} = Enum.map_reduce(inputs, acc, &value/2)
    instruction(operation, [type(node)], inputs, node, acc)
  end

  # A part of a `cond`, which begins with what those before it have captured.
  defp branch(expression, before, {scope, state}) do
    branch =
      scope |> Scope.new(Tree.scope_ids(expression, scope.ids)) |> Scope.within_reach(:cond)

    branch = if before, do: Scope.take_over(branch, %{before | parent: scope}), else: branch
    {outputs, {branch, state}} = numbers(expression, {%{branch | kind: :branch}, state})
    {{branch, outputs}, branch, {branch.parent, state}}
  end

  # The default implementation of a block: its parameters are the block's arguments.
  defp inline(default, arguments, node, acc) do
    tensors = Enum.take_while(arguments, &(not is_list(&1)))
    {inputs, {scope, state}} = Enum.map_reduce(tensors, acc, &value/2)
    given = inputs |> Enum.with_index(&{&2, &1}) |> Map.new()
    ids = Tree.scope_ids(default, scope.ids)
    inner = %{scope | blocks: [given | scope.blocks], ids: ids}
    {outputs, {inner, state}} = numbers(default, {inner, state})
    {one_or_several(outputs, node), {%{inner | blocks: scope.blocks, ids: scope.ids}, state}}
  end

  defp call(call, outs, inputs, scope, state) do
    step = {:call, %{number: length(state.calls)}}
    {_numbers, scope} = Scope.instruction(scope, step, outs, inputs)
    {scope, %{state | calls: [call | state.calls]}}
  end

  defp hook({:fn, fun}, _hooks), do: fun
  defp hook({:named, name, callback}, hooks), do: hooks[name] || callback

  defp constant(number, type, acc) do
    {operation, []} = Operation.split(:constant, [number])
    {scope, state} = acc
    {[number], scope} = Scope.instruction(scope, operation, [type], [])
    {number, {scope, state}}
  end

  defp instruction(operation, outs, inputs, node, {scope, state}) do
    {numbers, scope} = Scope.instruction(scope, operation, outs, inputs)
    {one_or_several(numbers, node), {scope, state}}
  end

  defp one_or_several(numbers, %T{type: {:tuple, _size}}), do: {:several, numbers}
  defp one_or_several([number], _node), do: number

  defp type(%T{type: {:c, 128}, data: %Expr{op: op}}),
    do: throw({:unsupported, op, "MLX has {:c, 64} and not {:c, 128}"})

  defp type(%T{type: type, shape: shape, vectorized_axes: axes}),
    do: {type, Keyword.values(axes) ++ Tuple.to_list(shape)}
end
