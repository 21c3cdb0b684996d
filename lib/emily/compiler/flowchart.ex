defmodule Emily.Compiler.Flowchart do
  @moduledoc false
  # Programs as a flowchart in Mermaid's language, <https://mermaid.js.org/syntax/flowchart.html>.
  #
  # Each instruction is a box, and an arrow leads to it from what gives each of its inputs. A program in an
  # instruction is a frame around its boxes, into which arrows lead from the instruction's inputs; its
  # results lead to the instruction with broken lines.

  alias Emily.Compiler.Explanation

  @doc "The flowchart, with a frame each for the program before and after the passes."
  @spec render(Explanation.t()) :: String.t()
  def render(explanation) do
    [
      "flowchart TD",
      frame("before", "before", outermost(explanation.before, explanation.inputs, "b")),
      frame("after", "after", outermost(explanation.after, explanation.inputs, "a"))
    ]
    |> List.flatten()
    |> Enum.join("\n")
  end

  defp outermost(program, origins, id) do
    inputs =
      for {{input, origin}, at} <- program.inputs |> Enum.zip(origins) |> Enum.with_index(),
          do: ~s|#{id}i#{at}(["#{origin}<br/>#{Explanation.type(input)}"])|

    sources = for {_input, at} <- Enum.with_index(program.inputs), do: "#{id}i#{at}"
    {lines, outputs} = boxes(program, sources, id)
    results = for {output, at} <- Enum.with_index(outputs), do: result(output, "#{id}o#{at}", at)
    [inputs, lines, results]
  end

  defp result(source, id, at), do: [~s|#{id}(["result #{at}"])|, "#{source} --> #{id}"]

  # The lines of a program's instructions, and the boxes that give its outputs.
  defp boxes(program, sources, id) do
    sources = sources |> Enum.with_index(&{&2, &1}) |> Map.new()

    {lines, {sources, _at}} =
      Enum.map_reduce(program.instructions, {sources, 0}, fn step, {sources, at} ->
        box = "#{id}n#{at}"
        given = map_size(sources)
        outs = for {_out, number} <- Enum.with_index(step.outs, given), do: {number, box}
        {box(step, box, sources), {Map.merge(sources, Map.new(outs)), at + 1}}
      end)

    {lines, Enum.map(program.outputs, &Map.fetch!(sources, &1))}
  end

  defp box(step, id, sources) do
    inputs = Enum.map(step.inputs, &Map.fetch!(sources, &1))
    types = Enum.map_join(step.outs, ", ", &Explanation.type/1)
    attributes = step.op |> Explanation.attributes() |> Enum.join(", ")
    words = Enum.reject(["#{Explanation.name(step.op)}", attributes, types], &(&1 == ""))
    arrows = for input <- Enum.uniq(inputs), do: "#{input} --> #{id}"

    parts =
      for {{title, part}, at} <- Enum.with_index(Explanation.parts(step.op)) do
        # A function of elements is not given the tensors themselves.
        sources =
          if title == "function", do: part.inputs |> Enum.map(fn _ -> id end), else: inputs

        {lines, outputs} = boxes(part, sources, "#{id}p#{at}")
        results = for output <- Enum.uniq(outputs), output != id, do: "#{output} -.-> #{id}"
        [frame("#{id}p#{at}", title, lines), results]
      end

    [~s|#{id}["#{words |> Enum.map_join("<br/>", &escaped/1)}"]|, arrows, parts]
  end

  defp frame(id, title, lines) do
    lines = for line <- List.flatten([lines]), do: "  " <> line
    [~s|subgraph #{id} ["#{title}"]|, lines, "end"]
  end

  defp escaped(text), do: text |> String.replace("\"", "#quot;") |> String.replace("<", "#lt;")
end
