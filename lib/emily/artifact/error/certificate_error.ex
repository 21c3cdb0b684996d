defmodule Emily.Artifact.CertificateError do
  @moduledoc """
  A server that could not prove who it is, or a set of certificate authorities that cannot be read.
  """

  alias Emily.Artifact.Report

  defexception [:url, :path, :actual]

  @type t :: %__MODULE__{url: String.t(), path: Path.t() | nil, actual: String.t()}

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not trust the server of Emily's release",
      [
        {"url", error.url},
        {"path", error.path},
        {"expected", "a certificate by a known authority, for this host"},
        {"actual", error.actual}
      ],
      "If a proxy of your own signs for it, set HEX_CACERTS_PATH to its authority's PEM file and run `mix compile`."
    )
  end
end
