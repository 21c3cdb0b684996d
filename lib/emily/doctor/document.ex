defmodule Emily.Doctor.Document do
  @moduledoc """
  A report as one JSON document, for machines. `mix help emily.doctor` describes it; its `schema`
  number changes when a reader of the old one could be misled.
  """

  alias Emily.Doctor.Report

  @schema 1

  @doc "The document's text, without a newline at its end."
  @spec render(Report.t()) :: String.t()
  def render(%Report{} = report) do
    # A keyword-like list of pairs keeps the keys in the order of the documentation.
    [
      schema: @schema,
      emily: report.version,
      status: Report.status(report),
      counts: object(Report.counts(report)),
      checks: Enum.map(report.entries, &check/1)
    ]
    |> object()
    |> JSON.encode_to_iodata!(&encode/2)
    |> IO.iodata_to_binary()
  end

  defp check({check, outcome}) do
    object(
      id: check.id,
      title: check.title,
      status: outcome.status,
      message: outcome.message,
      details: for({label, value} <- outcome.details, do: object(label: label, value: value)),
      next: outcome.next,
      needs: check.needs
    )
  end

  defp object(pairs), do: {:object, pairs}

  defp encode({:object, pairs}, encoder), do: :json.encode_key_value_list(pairs, encoder)
  defp encode(value, encoder), do: JSON.protocol_encode(value, encoder)
end
