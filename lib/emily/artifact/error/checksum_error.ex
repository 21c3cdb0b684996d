defmodule Emily.Artifact.ChecksumError do
  @moduledoc """
  Downloaded bytes whose digest is not the published one.
  """

  alias Emily.Artifact.Report

  defexception [:asset, :url, :size, :expected, :actual]

  @type t :: %__MODULE__{
          asset: String.t(),
          url: String.t(),
          size: non_neg_integer(),
          expected: String.t(),
          actual: String.t()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not accept #{error.asset}: its checksum is not the published one",
      [
        {"url", error.url},
        {"bytes", error.size},
        {"expected", error.expected},
        {"actual", error.actual}
      ],
      "Run `mix compile` to download it again; if it repeats, the release is damaged: report it."
    )
  end
end
