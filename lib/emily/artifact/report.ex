defmodule Emily.Artifact.Report do
  @moduledoc """
  The three parts of an install error: what failed on what; the facts, aligned; the command to
  run next.

      iex> Emily.Artifact.Report.text("could not read x", [{"path", "/x"}, {"expected", "1 byte"}], "Run `ls`.")
      "could not read x\\n\\n  path      /x\\n  expected  1 byte\\n\\nRun `ls`."
  """

  @typedoc "A label and its value; a fact whose value is nil is left out, a list is one line each."
  @type fact :: {String.t(), String.t() | integer() | [String.t()] | nil}

  @spec text(String.t(), [fact()], String.t()) :: String.t()
  def text(headline, facts, next) do
    [headline, table(facts), next]
    |> Enum.reject(&(&1 == ""))
    |> Enum.join("\n\n")
  end

  defp table(facts) do
    rows = for {label, value} <- facts, value not in [nil, []], do: {label, List.wrap(value)}

    width =
      rows |> Enum.map(fn {label, _values} -> String.length(label) end) |> Enum.max(fn -> 0 end)

    Enum.map_join(rows, "\n", fn {label, [first | rest]} ->
      indent = String.duplicate(" ", width + 4)

      [
        "  ",
        String.pad_trailing(label, width),
        "  ",
        to_string(first),
        for(value <- rest, do: ["\n", indent, value])
      ]
    end)
  end
end
