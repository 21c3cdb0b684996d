defmodule Emily.Artifact.HttpError do
  @moduledoc """
  A request that got no usable answer.

  `reason` is `{:status, code}`, `{:proxy, code}`, `:timeout`, `:stalled`, `:closed`, `:too_large`, `:unreadable`, `:bad_address`,
  `:plain_http` (an `http` address that is not loopback's), or what the transport said.
  `retry_after` is the number of seconds that the server asked to be left alone for.
  """

  alias Emily.Artifact.Report

  # Reasons that are no lack of a network: somebody answered, or nobody was asked.
  @answers [:too_large, :unreadable, :bad_address, :plain_http]

  defexception [:url, :reason, :retry_after, :expected, :actual, attempts: 1]

  @type t :: %__MODULE__{
          url: String.t(),
          reason: term(),
          retry_after: non_neg_integer() | nil,
          expected: String.t() | nil,
          actual: String.t() | nil,
          attempts: pos_integer()
        }

  @doc "Whether the same request may well succeed a moment later."
  @spec transient?(t()) :: boolean()
  def transient?(%__MODULE__{reason: {who, code}}) when who in [:status, :proxy],
    do: code in [408, 429] or code in 500..599

  def transient?(%__MODULE__{reason: reason}),
    do: reason in [:timeout, :stalled, :closed, :econnreset, :etimedout]

  @doc "Whether the server could not be reached, or could not answer: the state of being offline."
  @spec offline?(t()) :: boolean()
  def offline?(%__MODULE__{reason: {who, code}}) when who in [:status, :proxy],
    do: code in 500..599

  def offline?(%__MODULE__{reason: reason}), do: is_atom(reason) and reason not in @answers

  @doc "Whether the address is in order, and has no such file."
  @spec absent?(t()) :: boolean()
  def absent?(%__MODULE__{reason: reason}),
    do: reason in [{:status, 404}, {:status, 410}, :enoent]

  @doc "The reason, in words."
  @spec cause(t()) :: String.t()
  def cause(%__MODULE__{reason: reason}) do
    case reason do
      {:status, code} -> "the server answered with status #{code}"
      {:proxy, code} -> "the proxy answered with status #{code}"
      :timeout -> "the server did not answer in time"
      :stalled -> "the server sends next to nothing"
      :closed -> "the connection was closed in the middle"
      :too_large -> "the answer is too large"
      :nxdomain -> "the host name is unknown"
      :bad_address -> "this is no address to download from"
      :plain_http -> "http is for addresses of this machine alone"
      :unreadable -> "the answer is not HTTP"
      posix when is_atom(posix) -> List.to_string(:inet.format_error(posix))
      other -> inspect(other)
    end
  end

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not download a file of Emily's release: #{cause(error)}",
      [
        {"url", error.url},
        {"expected", error.expected},
        {"actual", error.actual},
        {"attempts", error.attempts}
      ],
      "Check the network, HTTPS_PROXY and EMILY_RELEASE_URL, and run `mix compile`."
    )
  end
end
