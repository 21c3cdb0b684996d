defmodule Emily.Artifact.SignatureError do
  @moduledoc """
  A signature that does not vouch for the bytes it came with, or a key that cannot be read.

  `subject` is the file that is signed, or that holds the key.
  """

  alias Emily.Artifact.Report

  defexception [:subject, :url, :expected, :actual]

  @type t :: %__MODULE__{
          subject: String.t(),
          url: String.t() | nil,
          expected: String.t(),
          actual: String.t()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not trust #{error.subject}",
      [{"url", error.url}, {"expected", error.expected}, {"actual", error.actual}],
      "Do not go around it: run `mix compile` to try again, and report it if it repeats."
    )
  end
end
