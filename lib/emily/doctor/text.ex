defmodule Emily.Doctor.Text do
  @moduledoc """
  A report as text, for people: a line for each check, the facts and the next step of each problem
  beneath it, and one closing line.
  """

  alias Emily.Doctor.{Outcome, Report}

  @colours [ok: :green, warning: :yellow, error: :red, skipped: :light_black]
  @mark_width @colours |> Keyword.keys() |> Enum.map(&String.length("#{&1}")) |> Enum.max()

  @doc """
  The report's text, with a newline at its end.

  ## Options

    * `:colour` - whether to mark the statuses with ANSI colours. Defaults to `false`.
  """
  @spec render(Report.t(), colour: boolean()) :: String.t()
  def render(%Report{} = report, options \\ []) do
    colour? = Keyword.get(options, :colour, false)

    width =
      report.entries |> Enum.map(fn {check, _} -> String.length(check.title) end) |> Enum.max()

    lines =
      Enum.flat_map(report.entries, fn {check, outcome} ->
        head = [
          mark(outcome.status, colour?),
          "  ",
          String.pad_trailing(check.title, width),
          "  ",
          outcome.message
        ]

        [head | beneath(outcome, String.duplicate(" ", @mark_width + width + 4))]
      end)

    IO.iodata_to_binary([
      ["Emily ", report.version, "\n\n"],
      Enum.map(lines, &["  ", &1, "\n"]),
      ["\n", closing(report, colour?), "\n"]
    ])
  end

  # Details are facts about a problem or a measurement; the next step reads as the last of them.
  defp beneath(%Outcome{} = outcome, indent) do
    rows = outcome.details ++ if(outcome.next, do: [{"next", outcome.next}], else: [])
    width = rows |> Enum.map(fn {label, _} -> String.length(label) end) |> Enum.max(fn -> 0 end)

    for {label, value} <- rows,
        {line, index} <- value |> String.split("\n") |> Enum.with_index() do
      label = if index == 0, do: label, else: ""
      [indent, String.pad_trailing(label, width + 2), line]
    end
  end

  defp closing(report, colour?) do
    counts =
      for {status, count} <- Report.counts(report), count > 0 or status == :error do
        "#{count} #{noun(status, count)}"
      end

    verdict =
      case Report.status(report) do
        :ok -> "Emily is ready"
        :warning -> "Emily works, with warnings"
        :error -> "Emily does not work here as it is"
      end

    [paint(verdict, Report.status(report), colour?), ": ", Enum.join(counts, ", ")]
  end

  defp noun(:ok, _count), do: "ok"
  defp noun(:skipped, _count), do: "skipped"
  defp noun(status, 1), do: Atom.to_string(status)
  defp noun(status, _count), do: "#{status}s"

  # The padding stays outside the colour, so that the columns are the same with and without.
  defp mark(status, colour?) do
    word = Atom.to_string(status)
    [paint(word, status, colour?), String.duplicate(" ", @mark_width - String.length(word))]
  end

  defp paint(text, status, colour?) do
    IO.ANSI.format_fragment([Keyword.fetch!(@colours, status), text, :reset], colour?)
  end
end
