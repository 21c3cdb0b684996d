defmodule Emily.Reducer do
  @moduledoc """
  The functions that `Nx.reduce/4` and `Nx.window_reduce/5` are given, as programs of the native core.

  A function of two scalars that is made of elementwise operations becomes a flat list of these, which
  the core runs on all elements at once. In a node of an expression a `cond` becomes a selection.
  """

  alias Emily.Operation
  alias Emily.Reducer.Tracer
  alias Nx.Defn.Expr
  alias Nx.Tensor, as: T

  @typedoc """
  A program as `Emily.Native.op/4` takes it: its values are numbered, the inputs first, then what each
  instruction gives.
  """
  @type program :: %{
          inputs: [Emily.Native.out()],
          instructions: [
            %{op: Operation.t(), outs: [Emily.Native.out()], inputs: [non_neg_integer()]}
          ],
          outputs: [non_neg_integer()]
        }

  @doc """
  The program of `fun`, called with an element and the accumulator, both scalars of `type`.

  `fun` is an Elixir function, or a node of an expression that holds one. Returns `{:error, reason}`,
  a text, where the function does what no program of elementwise operations can.
  """
  @spec trace(fun() | T.t(), Nx.Type.t()) :: {:ok, program()} | {:error, String.t()}
  def trace(fun, type) do
    body = if is_function(fun), do: noted(fun, type), else: body(fun)
    {output, trace} = value(body, %{known: %{}, instructions: [], next: 2})
    scalar = {type, []}

    {:ok,
     %{
       inputs: [scalar, scalar],
       instructions: Enum.reverse(trace.instructions),
       outputs: [output]
     }}
  catch
    {:untraceable, reason} -> {:error, reason}
  end

  # The function runs here once. What it raises without values it may well not raise with them, so the
  # caller decides what to make of it.
  defp noted(fun, type) do
    Nx.with_default_backend(Nx.BinaryBackend, fn ->
      Nx.to_tensor(fun.(Tracer.parameter(type, 0), Tracer.parameter(type, 1)))
    end)
  rescue
    error -> throw({:untraceable, Exception.message(error)})
  end

  defp body(%T{data: %Expr{op: :fun, args: [_parameters, body, _mfa]}}), do: body

  # The number of a node's value, after the instructions that it takes.
  defp value(%T{vectorized_axes: [], shape: {}, data: %Nx.BinaryBackend{}} = tensor, trace),
    do: constant(Nx.to_number(tensor), tensor.type, trace)

  defp value(%T{vectorized_axes: [], shape: {}, data: %{id: id} = node} = tensor, trace) do
    case trace.known do
      %{^id => number} ->
        {number, trace}

      _unknown ->
        {number, trace} = instructions(node.op, node.args, tensor, trace)
        {number, put_in(trace.known[id], number)}
    end
  end

  defp value(%T{shape: {}, data: %backend{}}, _trace),
    do: throw({:untraceable, "a tensor of #{inspect(backend)}"})

  defp value(%T{}, _trace), do: throw({:untraceable, "a tensor that is no scalar"})
  defp value(number, trace) when is_integer(number), do: constant(number, {:s, 32}, trace)
  defp value(_other, _trace), do: throw({:untraceable, "a result that is no tensor"})

  defp instructions(:parameter, [position], _tensor, trace), do: {position, trace}

  defp instructions(:metadata, [expression, _metadata], _tensor, trace),
    do: value(expression, trace)

  defp instructions(:constant, [number], %T{type: type}, trace), do: constant(number, type, trace)

  # Between scalars there is nothing to move.
  defp instructions(name, [%T{} = input | _rest], _tensor, trace)
       when name in [:reshape, :squeeze, :broadcast, :transpose],
       do: value(input, trace)

  defp instructions(:block, [block, arguments, _body, _callback], tensor, trace) do
    case Operation.block(block, arguments) do
      :unknown -> throw({:untraceable, inspect(block)})
      {operation, inputs} -> instruction(operation, inputs, tensor, trace)
    end
  end

  defp instructions(:cond, [clauses, last], tensor, trace) do
    Enum.reduce(Enum.reverse(clauses), value(last, trace), fn {predicate, result},
                                                              {other, trace} ->
      {result, trace} = value(result, trace)
      {predicate, trace} = value(predicate, trace)
      append(:select, [predicate, result, other], tensor.type, trace)
    end)
  end

  defp instructions(name, arguments, tensor, trace) do
    if not Operation.elementwise?(name), do: throw({:untraceable, to_string(name)})
    {operation, inputs} = Operation.split(name, arguments)
    instruction(operation, inputs, tensor, trace)
  end

  defp instruction(operation, inputs, tensor, trace) do
    name = if is_tuple(operation), do: elem(operation, 0), else: operation
    if not Operation.elementwise?(name), do: throw({:untraceable, to_string(name)})
    {inputs, trace} = Enum.map_reduce(inputs, trace, &value/2)
    append(operation, inputs, tensor.type, trace)
  end

  defp constant(number, type, trace) do
    {operation, []} = Operation.split(:constant, [number])
    append(operation, [], type, trace)
  end

  defp append(operation, inputs, type, trace) do
    instruction = %{op: operation, outs: [{type, []}], inputs: inputs}

    {trace.next,
     %{trace | instructions: [instruction | trace.instructions], next: trace.next + 1}}
  end
end
