defmodule Emily.Doctor.Report do
  @moduledoc """
  What the doctor found: every check of the table, in its order, with its outcome.

  How a report is shown is the business of `Emily.Doctor.Text` and `Emily.Doctor.Document`.
  """

  alias Emily.Doctor.{Check, Outcome}

  @enforce_keys [:version, :entries]
  defstruct [:version, :entries]

  @type t :: %__MODULE__{version: String.t(), entries: [{Check.t(), Outcome.t()}]}

  @statuses [:ok, :warning, :error, :skipped]

  @doc "How many checks ended with each status, in the order in which they are shown."
  @spec counts(t()) :: [{Outcome.status(), non_neg_integer()}]
  def counts(%__MODULE__{entries: entries}) do
    found = Enum.frequencies_by(entries, fn {_check, outcome} -> outcome.status end)
    for status <- @statuses, do: {status, Map.get(found, status, 0)}
  end

  @doc """
  The worst that was found. A skipped check does not count: what made it so is in the report.
  """
  @spec status(t()) :: :ok | :warning | :error
  def status(%__MODULE__{} = report) do
    counts = counts(report)

    cond do
      counts[:error] > 0 -> :error
      counts[:warning] > 0 -> :warning
      true -> :ok
    end
  end

  @doc "The exit status of a command that prints the report: 1 if there is any error."
  @spec exit_status(t()) :: 0 | 1
  def exit_status(%__MODULE__{} = report), do: if(status(report) == :error, do: 1, else: 0)
end
