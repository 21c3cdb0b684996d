defmodule Emily.Compiler.Listing do
  @moduledoc false
  # A program as lines of text: one an input and one an instruction, those of programs in it further in.

  alias Emily.Compiler.Explanation

  @doc "The lines of a program; `origins` say where its inputs come from."
  @spec render(Emily.Native.program(), [String.t()]) :: String.t()
  def render(program, origins) do
    inputs =
      for {{input, origin}, at} <- program.inputs |> Enum.zip(origins) |> Enum.with_index(),
          do: "%#{at} #{Explanation.type(input)} #{origin}"

    (inputs ++ body(program)) |> Enum.map_join("\n", &("  " <> &1))
  end

  defp body(program) do
    {lines, _given} =
      Enum.flat_map_reduce(program.instructions, length(program.inputs), fn step, given ->
        {instruction(step, given), given + length(step.outs)}
      end)

    lines ++ [String.trim("gives #{values(program.outputs)}")]
  end

  defp instruction(step, given) do
    outs =
      for {out, number} <- Enum.with_index(step.outs, given),
          do: "%#{number} #{Explanation.type(out)}"

    arguments = Enum.map(step.inputs, &"%#{&1}") ++ Explanation.attributes(step.op)
    call = String.trim("#{Explanation.name(step.op)} #{Enum.join(arguments, ", ")}")
    line = if outs == [], do: call, else: "#{Enum.join(outs, ", ")} = #{call}"

    [line | for({title, part} <- Explanation.parts(step.op), line <- part(title, part), do: line)]
  end

  defp part(title, program) do
    inputs =
      for {input, at} <- Enum.with_index(program.inputs), do: "%#{at} #{Explanation.type(input)}"

    title = String.trim("#{title} #{Enum.join(inputs, ", ")}")
    ["  " <> title | Enum.map(body(program), &("    " <> &1))]
  end

  defp values(numbers), do: Enum.map_join(numbers, ", ", &"%#{&1}")
end
