defmodule Emily.Compiler.Loop do
  @moduledoc false
  # A `while` of the native core under construction.

  alias Emily.Compiler.Scope

  @typedoc "The program that the loop stands in, and what goes with it from one node to the next."
  @type acc :: {Scope.t(), term()}

  @typedoc "Gives numbers in the scope of the loop, of the numbers of what it carries."
  @type part :: ([integer()], acc() -> {[integer()], acc()})

  @doc """
  Adds a loop that carries the values with the numbers `initial`; returns the numbers of what it gives.

  `construct` is what the loop is made for. Throws `{:unsupported, construct, reason}` if the body gives
  other shapes than the loop begins with, or the loop lies too deep in others.
  """
  @spec add(atom(), [integer()], part(), part(), acc()) :: {[integer()], acc()}
  def add(construct, initial, condition, body, {scope, state}) do
    outs = Enum.map(initial, &Map.fetch!(scope.types, &1))
    start = %{(scope |> Scope.new(%{}) |> Scope.within_reach(construct)) | kind: :closed}

    {carried, start} =
      outs
      |> Enum.with_index()
      |> Enum.map_reduce(start, fn {out, at}, start -> Scope.parameter(start, at, out) end)

    {condition_outputs, {condition, state}} = condition.(carried, {start, state})
    start = Scope.take_over(start, condition)
    {body_outputs, {body, state}} = body.(carried, {start, state})
    {body_outputs, body} = of_types(construct, body_outputs, outs, body)
    scope = body.parent
    captures = Scope.captures(body)
    types = outs ++ Enum.map(captures, &Map.fetch!(scope.types, &1))

    step =
      {:while,
       %{
         condition: Scope.close(condition, condition_outputs, types),
         body: Scope.close(body, body_outputs, types)
       }}

    {numbers, scope} = Scope.instruction(scope, step, outs, initial ++ captures)
    {numbers, {scope, state}}
  end

  # What Nx makes of gradients may give a loop other types than it begins with.
  defp of_types(construct, numbers, outs, scope) do
    numbers
    |> Enum.zip(outs)
    |> Enum.map_reduce(scope, fn {number, {_, shape} = out}, scope ->
      case Map.fetch!(scope.types, number) do
        ^out ->
          {number, scope}

        {_other, ^shape} ->
          {[number], scope} = Scope.instruction(scope, :as_type, [out], [number])
          {number, scope}

        other ->
          reason = "its body makes #{inspect(other)} of #{inspect(out)}"
          throw({:unsupported, construct, reason})
      end
    end)
  end
end
