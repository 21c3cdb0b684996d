defmodule Emily.Artifact.Client do
  @moduledoc """
  An HTTP client with the proxy and certificate authorities that Mix users know. Loopback addresses,
  which are the only ones that plain `http` is for, are reached without a proxy.

  It is a stand-alone `:httpc`, so that its proxies and connections concern nobody else, and lives
  as long as the function that was given it. Servers are always verified over `https`.
  """

  alias Emily.Artifact.{CertificateError, Http}
  alias Emily.Settings

  # A proxy's loopback is not ours. httpc takes what is no host name for the beginning of an address.
  @loopback [~c"localhost", ~c"127.", ~c"::1"]

  @enforce_keys [:profile, :settings]
  defstruct @enforce_keys ++
              [idle_ms: 30_000, connect_ms: 15_000, clock: &__MODULE__.monotonic_ms/0]

  @type t :: %__MODULE__{
          profile: pid(),
          settings: Settings.t(),
          idle_ms: pos_integer(),
          connect_ms: pos_integer(),
          clock: (-> integer())
        }

  @doc """
  Runs a function with a client. `:idle_ms` is how long a server may send nothing, or next to nothing.
  """
  @spec with_client(Settings.t(), keyword(), (t() -> result)) :: result when result: var
  def with_client(%Settings{} = settings, options \\ [], function) do
    {:ok, _started} = Application.ensure_all_started([:inets, :ssl])
    {:ok, profile} = :inets.start(:httpc, [profile: profile_name()], :stand_alone)

    try do
      :ok = :httpc.set_options(profile_options(settings), profile)
      function.(struct!(%__MODULE__{profile: profile, settings: settings}, options))
    after
      # It is linked to its starter, whom its end should not take along.
      Process.unlink(profile)
      :inets.stop(:stand_alone, profile)
    end
  end

  # Each client's table bears its profile's name. One atom an install is no leak worth a registry.
  defp profile_name, do: :"emily_installer_#{System.unique_integer([:positive])}"

  # inet6fb4: a machine with only one of the two address families finds its way.
  defp profile_options(settings) do
    no_proxy = @loopback ++ Enum.map(settings.no_proxy, &no_proxy_pattern/1)

    proxy =
      if url = settings.https_proxy do
        %URI{host: host, port: port} = proxy_uri(url)
        [https_proxy: {{String.to_charlist(host), port}, no_proxy}]
      end

    [ipfamily: :inet6fb4, max_sessions: 1] ++ (proxy || [])
  end

  @doc """
  Whether a host's name or address is loopback's.

      iex> Enum.filter(~w(localhost 127.0.0.1 ::1 localhost.example 127.example), &Emily.Artifact.Client.loopback?/1)
      ["localhost", "127.0.0.1", "::1"]
  """
  @spec loopback?(String.t()) :: boolean()
  def loopback?(host) do
    case :inet.parse_strict_address(String.to_charlist(host)) do
      {:ok, {127, _, _, _}} -> true
      {:ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true
      {:ok, _other} -> false
      {:error, _name} -> String.downcase(host) == "localhost"
    end
  end

  defp no_proxy_pattern("." <> domain), do: ~c"*." ++ String.to_charlist(domain)
  defp no_proxy_pattern(host), do: String.to_charlist(host)

  # Both "proxy.example:3128" and "http://user:word@proxy.example:3128/" are in use.
  defp proxy_uri(url) do
    uri = URI.parse(if String.contains?(url, "://"), do: url, else: "http://" <> url)

    if uri.host in [nil, ""] do
      raise ArgumentError,
            "expected HTTPS_PROXY to be the address of a proxy, got: #{inspect(url)}"
    end

    uri
  end

  @doc false
  def monotonic_ms, do: System.monotonic_time(:millisecond)

  @doc "The options of a request to one address, as `:httpc` calls them."
  @spec request_options(t(), String.t()) :: {:ok, keyword()} | {:error, CertificateError.t()}
  def request_options(%__MODULE__{} = client, url) do
    scheme = URI.parse(url).scheme

    with {:ok, ssl} <- ssl_options(scheme, client.settings, Http.shown(url)) do
      {:ok,
       [autoredirect: false, connect_timeout: client.connect_ms] ++
         ssl ++ proxy_auth(scheme, client.settings)}
    end
  end

  defp proxy_auth(scheme, settings) do
    proxy = if scheme == "https", do: settings.https_proxy

    case proxy && String.split(proxy_uri(proxy).userinfo || "", ":", parts: 2) do
      [user, password] -> [proxy_auth: {decoded(user), decoded(password)}]
      _none -> []
    end
  end

  defp decoded(text), do: text |> URI.decode() |> String.to_charlist()

  defp ssl_options("https", settings, url) do
    with {:ok, authorities} <- authorities(settings.cacerts_path, url) do
      check = [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]

      # What goes wrong comes back as an error, so the log need not say it too.
      verification = [verify: :verify_peer, customize_hostname_check: check, log_level: :none]
      {:ok, [ssl: verification ++ authorities]}
    end
  end

  defp ssl_options(_plain, _settings, _url), do: {:ok, []}

  defp authorities(nil, url) do
    {:ok, [cacerts: :public_key.cacerts_get()]}
  rescue
    _none ->
      {:error, %CertificateError{url: url, actual: "this system has no certificate authorities"}}
  end

  defp authorities(path, url) do
    if File.regular?(path) do
      {:ok, [cacertfile: String.to_charlist(path)]}
    else
      {:error, %CertificateError{url: url, path: path, actual: "HEX_CACERTS_PATH is no file"}}
    end
  end
end
