defmodule Emily.Compiler.Explanation do
  @moduledoc false
  # A function's program before and after the passes, for people to read.

  alias Emily.Compiler.{Flowchart, Listing}
  alias Emily.Native

  @enforce_keys [:before, :after, :found, :inputs]
  defstruct [:before, :after, :found, :inputs, :fused]

  @type t :: %__MODULE__{
          before: Native.program(),
          after: Native.program(),
          found: [{atom(), non_neg_integer()}],
          inputs: [String.t()],
          fused: {non_neg_integer(), non_neg_integer()} | nil
        }

  @doc "What these passes make of a program, and fusion on `stream`, unless that is nil."
  @spec new(Emily.Compiler.Lowering.lowered(), [atom()], reference() | nil) :: t()
  def new(lowered, passes, stream) do
    # Through the core, which writes all attributes alike.
    {before, []} = Native.program_optimized(lowered.program, [])
    {later, found} = Native.program_optimized(lowered.program, passes)
    inputs = Enum.map(lowered.inputs, &origin/1)
    fused = stream && Native.program_fused(lowered.program, passes, stream)
    %__MODULE__{before: before, after: later, found: found, inputs: inputs, fused: fused}
  end

  defp origin({:parameter, position}), do: "parameter #{position}"
  defp origin({:constant, _tensor}), do: "tensor of the function"

  @doc "The explanation as `:text`, or as a `:mermaid` flowchart."
  @spec render(t(), :text | :mermaid) :: String.t()
  def render(explanation, :mermaid), do: Flowchart.render(explanation)

  def render(explanation, :text) do
    {patterns, passes} =
      for({pass, count} when count > 0 <- explanation.found, do: {pass, count})
      |> Enum.split_with(fn {pass, _count} -> pass in Native.program_patterns() end)

    """
    before: #{counts(explanation.before)}
    after: #{counts(explanation.after)}
    passes: #{found(passes, "nothing to do")}
    patterns: #{found(patterns, "none")}\
    #{fused(explanation.fused)}

    before
    #{Listing.render(explanation.before, explanation.inputs)}

    after
    #{Listing.render(explanation.after, explanation.inputs)}\
    """
  end

  defp fused(nil), do: ""
  defp fused({one_by_one, left}), do: "\nfused: #{one_by_one} operations of MLX to #{left}"

  # "constants 2, dead_code 1"
  defp found([], otherwise), do: otherwise

  defp found(counts, _otherwise),
    do: Enum.map_join(counts, ", ", fn {pass, count} -> "#{pass} #{count}" end)

  # "3 operations (2 exp, 1 sum)", those of the programs in it among them.
  defp counts(program) do
    names = names(program)

    by_name =
      names
      |> Enum.frequencies()
      |> Enum.sort_by(fn {name, count} -> {-count, name} end)
      |> Enum.map_join(", ", fn {name, count} -> "#{count} #{name}" end)

    operations = if length(names) == 1, do: "1 operation", else: "#{length(names)} operations"
    if names == [], do: operations, else: "#{operations} (#{by_name})"
  end

  defp names(program) do
    for %{op: op} <- program.instructions,
        name <- [name(op) | Enum.flat_map(parts(op), fn {_title, part} -> names(part) end)],
        do: name
  end

  @doc "The operation's name in Nx."
  @spec name(term()) :: atom()
  def name({:checked, %{op: op}}), do: name(op)
  def name({name, _attributes}), do: name
  def name(name), do: name

  @doc "The programs in an operation, each with what it is there."
  @spec parts(term()) :: [{String.t(), Native.program()}]
  def parts({:cond, %{clauses: clauses, last: last}}) do
    clauses =
      for {clause, at} <- Enum.with_index(clauses, 1),
          {title, part} <- [{"predicate #{at}", clause.predicate}, {"body #{at}", clause.body}],
          do: {title, part}

    clauses ++ [{"otherwise", last}]
  end

  def parts({:while, %{condition: condition, body: body}}),
    do: [{"condition", condition}, {"body", body}]

  def parts({_reduction, %{fun: fun}}), do: [{"function", fun}]
  def parts(_operation), do: []

  @doc "The attributes that are no programs, such as `axis: 1`."
  @spec attributes(term()) :: [String.t()]
  def attributes({construct, _parts}) when construct in [:cond, :while], do: []

  def attributes({:checked, %{op: op} = checked}),
    do: attributes(op) ++ if(checked.at, do: ["at: #{checked.at}"], else: [])

  def attributes({_name, attributes}) do
    for {name, value} <- Enum.sort(Map.delete(attributes, :fun)),
        do: "#{name}: #{inspect(value, charlists: :as_lists, limit: 20)}"
  end

  def attributes(_name), do: []

  @doc "A type and a shape, such as `f32[2][3]`."
  @spec type(Native.out()) :: String.t()
  def type({type, dims}), do: Nx.Type.to_string(type) <> Enum.map_join(dims, &"[#{&1}]")
end
