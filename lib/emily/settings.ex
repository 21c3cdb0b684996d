defmodule Emily.Settings do
  @moduledoc """
  Everything that the environment and the application's configuration can decide.

  This is the only Elixir module that reads `EMILY_*` variables. An empty variable counts as
  absent, and a variable wins over the configuration.

  | variable | configuration | meaning |
  | --- | --- | --- |
  | `EMILY_CACHE` | | the folder that keeps verified downloads |
  | `EMILY_VARIANT` | `config :emily, variant: :cpu` | the variant to install; the target's default when absent |
  | `CUDA_PATH`, `CUDA_HOME` | `config :emily, cuda_path: "/…/site-packages/nvidia"` | where CUDA is, for the variants that compute on NVIDIA's GPUs: a toolkit's folder, or pip's `nvidia`; see `Emily.Artifact.Cuda` |
  | `EMILY_RELEASE_URL` | `config :emily, release_url: "https://…/"` | where the assets are, in place of the project's release page: an `https` address, a folder as `file:///…`, or `http` on loopback |
  | `EMILY_OFFLINE` | `config :emily, offline: true` | `1` installs from the cache, or from a folder that the line above names, and asks no network |
  | | `config :emily, fallback: :raise` | what to do when an operation leaves the device: `:warn` (the default), `:silent` or `:raise`; the older `warn_on_fallback: true` and `false` mean `:warn` and `:silent` |
  | | `config :emily, native: false` | has `Emily.Compiler` call the backend operation by operation; true when absent |
  | | `config :emily, add_backend_on_inspect: false` | whether inspected tensors show their backend and device; true when absent |
  | | `config :emily, debug_bounds_check: true` | names indices that are out of bounds, see `Emily.Debug`; read when Emily is compiled |
  | | `config :emily, debug_detect_nan_inf: true` | finds where NaN and infinities come from, see `Emily.Debug`; read when Emily is compiled |
  | | `config :emily, fuse: true` | has `Emily.Compiler` fuse operations on elements; false when absent |
  | `EMILY_CXX` | `config :emily, cxx: "clang++"` | the C++ compiler that makes kernels on the CPU for that; `g++` when absent |
  | `HTTPS_PROXY`, `NO_PROXY` | | the proxy, with or without a name and password, and the hosts that are reached without it, as Mix reads them; lower case works too |
  | `HEX_CACERTS_PATH` | | the certificate authorities to trust, in place of the system's |

      iex> Emily.Settings.load(%{"EMILY_VARIANT" => "cuda12"}, variant: :cpu).variant
      "cuda12"

      iex> Emily.Settings.load(%{"EMILY_VARIANT" => ""}, variant: :cpu).variant
      "cpu"
  """

  @enforce_keys [:environment]
  defstruct [
    :environment,
    :cache,
    :variant,
    :release_url,
    :https_proxy,
    :cacerts_path,
    no_proxy: [],
    offline: false,
    fallback: :warn,
    native: true,
    fuse: false,
    cxx: "g++",
    add_backend_on_inspect: true
  ]

  @type t :: %__MODULE__{
          environment: %{String.t() => String.t()},
          cache: Path.t() | nil,
          variant: String.t() | nil,
          release_url: String.t() | nil,
          https_proxy: String.t() | nil,
          cacerts_path: Path.t() | nil,
          no_proxy: [String.t()],
          offline: boolean(),
          fallback: :silent | :warn | :raise,
          native: boolean(),
          fuse: boolean(),
          cxx: String.t(),
          add_backend_on_inspect: boolean()
        }

  @doc """
  Reads the settings from an environment and the application's configuration.

  Raises `ArgumentError` when a value is of the wrong type.
  """
  @spec load(%{String.t() => String.t()}, keyword()) :: t()
  def load(environment \\ System.get_env(), config \\ Application.get_all_env(:emily)) do
    %__MODULE__{
      environment: environment,
      cache: variable(environment, "EMILY_CACHE"),
      variant: variable(environment, "EMILY_VARIANT") || configured(config, :variant),
      release_url: variable(environment, "EMILY_RELEASE_URL") || configured(config, :release_url),
      https_proxy: variable(environment, ["HTTPS_PROXY", "https_proxy"]),
      cacerts_path: variable(environment, "HEX_CACERTS_PATH"),
      no_proxy: no_proxy(variable(environment, ["NO_PROXY", "no_proxy"])),
      offline: offline(environment, config),
      fallback: fallback(config),
      native: boolean(config, :native, true),
      fuse: boolean(config, :fuse, false),
      cxx: variable(environment, "EMILY_CXX") || configured(config, :cxx) || "g++",
      add_backend_on_inspect: boolean(config, :add_backend_on_inspect, true)
    }
  end

  @doc """
  Whether compiled functions are programs of the native core (`:native`), or fused (`:fuse`).

  It may change from one call to the next, and each asks: so this reads one setting and not all.
  """
  @spec flag(:native | :fuse) :: boolean()
  def flag(key) do
    default = Map.fetch!(__struct__(), key)
    boolean([{key, Application.get_env(:emily, key, default)}], key, default)
  end

  @doc """
  The folders in which CUDA may be, in the order in which they count; some of them may not exist.

      iex> Emily.Settings.cuda_paths(%{"CUDA_PATH" => "/opt/cuda"}, cuda_path: "/srv/nvidia")
      ["/srv/nvidia", "/opt/cuda", "/usr/local/cuda"]
  """
  @spec cuda_paths(%{String.t() => String.t()}, keyword()) :: [Path.t()]
  def cuda_paths(environment \\ System.get_env(), config \\ Application.get_all_env(:emily)) do
    named = Enum.map(["CUDA_PATH", "CUDA_HOME"], &variable(environment, &1))

    [configured(config, :cuda_path) | named]
    |> Enum.reject(&is_nil/1)
    |> Enum.concat(["/usr/local/cuda"])
    |> Enum.uniq()
  end

  @doc """
  One variable of the settings' environment; an empty one counts as absent.
  """
  @spec variable(t() | %{String.t() => String.t()}, String.t() | [String.t()]) ::
          String.t() | nil
  def variable(%__MODULE__{environment: environment}, names), do: variable(environment, names)

  def variable(environment, names) do
    names
    |> List.wrap()
    |> Enum.find_value(fn name ->
      case environment do
        %{^name => value} when value != "" -> value
        _absent -> nil
      end
    end)
  end

  defp configured(config, key) do
    case Keyword.get(config, key) do
      nil ->
        nil

      value when is_atom(value) ->
        Atom.to_string(value)

      value when is_binary(value) ->
        value

      other ->
        refuse(key, kind(key), other)
    end
  end

  defp kind(:variant), do: "an atom or a string"
  defp kind(_text), do: "a string"

  defp fallback(config) do
    older = if boolean(config, :warn_on_fallback, true), do: :warn, else: :silent

    case Keyword.get(config, :fallback, older) do
      policy when policy in [:silent, :warn, :raise] -> policy
      other -> refuse(:fallback, ":silent, :warn or :raise", other)
    end
  end

  defp offline(environment, config) do
    case variable(environment, "EMILY_OFFLINE") do
      nil ->
        boolean(config, :offline, false)

      value when value in ["1", "true"] ->
        true

      value when value in ["0", "false"] ->
        false

      other ->
        raise ArgumentError,
              "expected EMILY_OFFLINE to be 1, true, 0 or false, got: #{inspect(other)}"
    end
  end

  defp boolean(config, key, default) do
    case Keyword.get(config, key, default) do
      value when is_boolean(value) -> value
      other -> refuse(key, "true or false", other)
    end
  end

  defp refuse(key, expected, got) do
    raise ArgumentError,
          "expected config :emily, #{key}: to be #{expected}, got: #{inspect(got)}"
  end

  defp no_proxy(nil), do: []
  defp no_proxy(hosts), do: String.split(hosts, [",", " "], trim: true)
end
