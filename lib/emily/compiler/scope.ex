defmodule Emily.Compiler.Scope do
  @moduledoc false
  # A program of the native core under construction, with those around it.
  #
  # Values have numbers: what comes in counts down from -1, what instructions give counts up from 0.
  # Only when the program is done is it known how many values come in, and `close/2` numbers them as
  # the core does. A value of a program around this one is captured: it becomes one more input.

  alias Emily.Native

  @enforce_keys [:parent, :ids]
  defstruct parent: nil,
            # How many programs are around this one.
            depth: 0,
            # `:closed` takes nothing from around it but tensors; a `:branch` of a cond takes nodes.
            kind: :root,
            # Which nodes are computed here and not in a branch of a cond; for the branches to know.
            ids: %{},
            # The numbers of nodes that are computed already, by their ids.
            known: %{},
            # The numbers of the function's parameters, by position, and of constants, by node.
            parameters: %{},
            # The arguments of the blocks whose defaults are computed now, by position.
            blocks: [],
            types: %{},
            inputs: [],
            # By the number in the program around this one.
            captured: %{},
            instructions: [],
            given: 0,
            taken: 0

  @type t :: %__MODULE__{}

  @doc "A program in `parent`, or the outermost one."
  @spec new(t() | nil, map()) :: t()
  def new(nil, ids), do: %__MODULE__{parent: nil, ids: ids}
  def new(parent, ids), do: %__MODULE__{parent: parent, ids: ids, depth: parent.depth + 1}

  # The function of a reduction is one more program.
  @deepest 14

  @doc """
  The scope, if the core takes programs as deep in others; else throws `{:unsupported, construct, reason}`.
  """
  @spec within_reach(t(), atom()) :: t()
  def within_reach(%{depth: depth}, construct) when depth > @deepest,
    do: throw({:unsupported, construct, "it lies more than #{@deepest} deep in others"})

  def within_reach(scope, _construct), do: scope

  @doc "Adds an input."
  @spec input(t(), Native.out()) :: {integer(), t()}
  def input(scope, type) do
    number = -1 - scope.taken

    {number,
     %{
       scope
       | inputs: [type | scope.inputs],
         taken: scope.taken + 1,
         types: Map.put(scope.types, number, type)
     }}
  end

  @doc "The positions and constants that `parameter/3` was called with, in the order of the inputs."
  @spec parameters(t()) :: [term()]
  def parameters(scope) do
    scope.parameters |> Enum.sort_by(fn {_key, number} -> -number end) |> Enum.map(&elem(&1, 0))
  end

  @doc "Whether a node is computed here or further out, rather than in one branch alone."
  @spec owns?(t(), term()) :: boolean()
  def owns?(scope, id), do: is_map_key(scope.known, id) or is_map_key(scope.ids, id)

  @doc "The input that is this parameter of the function or this constant."
  @spec parameter(t(), term(), Native.out()) :: {integer(), t()}
  def parameter(%{parameters: parameters} = scope, key, type) do
    case parameters do
      %{^key => number} ->
        {number, scope}

      _new ->
        {number, scope} = input(scope, type)
        {number, %{scope | parameters: Map.put(parameters, key, number)}}
    end
  end

  @doc "Takes the value with this number of the program around this one."
  @spec capture(t(), integer()) :: {integer(), t()}
  def capture(%{captured: captured} = scope, outer) do
    case captured do
      %{^outer => number} ->
        {number, scope}

      _new ->
        {number, scope} = input(scope, Map.fetch!(scope.parent.types, outer))
        {number, %{scope | captured: Map.put(captured, outer, number)}}
    end
  end

  @doc "Has a program begin with what another one in the same place has taken already."
  @spec take_over(t(), t()) :: t()
  def take_over(scope, other) do
    types = other.inputs |> Enum.reverse() |> Enum.with_index(&{-1 - &2, &1}) |> Map.new()

    %{
      scope
      | parent: other.parent,
        parameters: other.parameters,
        captured: other.captured,
        inputs: other.inputs,
        taken: other.taken,
        types: types
    }
  end

  @doc "Adds an instruction; returns the numbers of what it gives."
  @spec instruction(t(), term(), [Native.out()], [integer()]) :: {[integer()], t()}
  def instruction(scope, op, outs, inputs) do
    numbers = Enum.to_list(scope.given..(scope.given + length(outs) - 1)//1)
    types = Enum.zip_reduce(numbers, outs, scope.types, &Map.put(&3, &1, &2))

    {numbers,
     %{
       scope
       | instructions: [{op, outs, inputs} | scope.instructions],
         given: scope.given + length(outs),
         types: types
     }}
  end

  @doc "Notes the number of a node, or the numbers of one that gives several values."
  @spec know(t(), term(), integer() | {:several, [integer()]}) :: t()
  def know(scope, id, numbers), do: %{scope | known: Map.put(scope.known, id, numbers)}

  @doc """
  The program, with these results and, after its inputs, those of `inputs` that it does not have.
  """
  @spec close(t(), [integer()], [Native.out()]) :: Native.program()
  def close(scope, outputs, inputs \\ []) do
    own = Enum.reverse(scope.inputs)
    inputs = own ++ Enum.drop(inputs, scope.taken)
    count = length(inputs)
    number = fn number -> if number < 0, do: -1 - number, else: count + number end

    instructions =
      for {op, outs, taken} <- Enum.reverse(scope.instructions),
          do: %{op: op, outs: outs, inputs: Enum.map(taken, number)}

    %{inputs: inputs, instructions: instructions, outputs: Enum.map(outputs, number)}
  end

  @doc "The numbers in the program around this one of what was captured, in the order of the inputs."
  @spec captures(t()) :: [integer()]
  def captures(scope) do
    scope.captured |> Enum.sort_by(fn {_outer, number} -> -number end) |> Enum.map(&elem(&1, 0))
  end
end
