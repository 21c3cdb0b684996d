defmodule Emily.Doctor.Environment do
  @moduledoc """
  The machine, as the doctor's checks see it.

  What is cheap and safe to know is a value. What costs time, starts something or may fail is a
  function, called by the one check that asks, once all that the check needs has passed.
  """

  alias Emily.Artifact.{
    Cache,
    Host,
    Keyring,
    Manifest,
    NoReleaseKeyError,
    SignatureError,
    Targets
  }

  alias Emily.Doctor.{Probe, Vm}
  alias Emily.Settings

  @enforce_keys [
    :version,
    :elixir,
    :host,
    :variant,
    :priv,
    :checkout?,
    :reinstall,
    :build,
    :cache,
    :user_id,
    :free_bytes,
    :keyring,
    :load,
    :info,
    :smoke,
    :backend,
    :matmul_rates,
    :mapped_libraries,
    :compiler
  ]
  defstruct @enforce_keys

  @type reason :: String.t()

  @typedoc """
    * `variant` - the variant that the settings ask for, if any
    * `priv` - the folder of the installed files
    * `checkout?` - whether Emily is its own git checkout, where the library is built from source
    * `reinstall` - the command that puts the right files into `priv`
    * `build` - what to do where no published library fits
    * `load` - loads the native library
    * `info` - asks the native library what it is
    * `smoke` - computes on a device; answers what it should have got and what it got
    * `backend` - computes one operation of each family with the backend; answers their names, and
      what went wrong with which
    * `matmul_rates` - operations a nanosecond of a CPU matrix product and an element-wise pass
    * `mapped_libraries` - the paths of the shared libraries in this VM
    * `compiler` - the first line that the C++ compiler prints for `--version`
  """
  @type t :: %__MODULE__{
          version: String.t(),
          elixir: String.t(),
          host: Host.t(),
          variant: {:ok, String.t() | nil} | {:error, reason()},
          priv: Path.t(),
          checkout?: boolean(),
          reinstall: String.t(),
          build: String.t(),
          cache: {:ok, Cache.t()} | {:error, Exception.t()},
          user_id: non_neg_integer(),
          free_bytes: (Cache.t() -> {:ok, non_neg_integer()} | :unknown),
          keyring:
            {:ok, Keyring.t()}
            | {:error, NoReleaseKeyError.t() | SignatureError.t()},
          load: (-> :ok | {:error, reason()}),
          info: (-> {:ok, map()} | {:error, reason()}),
          smoke: (atom() -> {:ok, {expected :: term(), actual :: term()}} | {:error, reason()}),
          backend: (-> {:ok, [String.t()], [{String.t(), String.t()}]} | :absent),
          matmul_rates: (-> %{matmul: float(), elementwise: float()}),
          mapped_libraries: (-> [Path.t()]),
          compiler: (-> String.t() | nil)
        }

  # The folder that this file was compiled in: a checkout, or the package's in `deps/`.
  @source Path.expand("../../..", __DIR__)

  @doc "This machine."
  @spec host() :: t()
  def host do
    checkout? = File.regular?(Path.join(@source, "native/nif/Cargo.toml"))
    settings = Settings.load(System.get_env(), [])

    %__MODULE__{
      version: Targets.version(),
      elixir: System.version(),
      host: Host.detect(),
      variant: variant(),
      priv: Application.app_dir(:emily, "priv"),
      checkout?: checkout?,
      reinstall: if(checkout?, do: "cargo xtask nif", else: "mix compile.emily --force"),
      build: "build it: `cargo xtask nif` in a checkout of #{Targets.home()}",
      cache: Cache.locate(settings),
      user_id: Cache.user_id(),
      free_bytes: &Cache.free_bytes/1,
      keyring: Keyring.release(),
      load: &Probe.load/0,
      info: &Probe.info/0,
      smoke: &Probe.smoke/1,
      backend: &Probe.backend/0,
      matmul_rates: &Probe.matmul_rates/0,
      mapped_libraries: &Vm.mapped_libraries/0,
      compiler: fn -> Vm.compiler(settings.cxx) end
    }
  end

  @doc """
  Whether the library, if there is one, is built here from source: this is a checkout, and no
  release was installed into it.
  """
  @spec built_here?(t()) :: boolean()
  def built_here?(%__MODULE__{checkout?: checkout?, priv: priv}) do
    checkout? and not File.exists?(Path.join(priv, Manifest.name()))
  end

  @doc """
  The next step when the right files are in place and the library fails all the same: to build it
  again where it is built here, and elsewhere to report it.
  """
  @spec last_resort(t()) :: String.t()
  def last_resort(%__MODULE__{} = environment) do
    if built_here?(environment), do: environment.reinstall, else: report()
  end

  @doc "The next step when nothing but a change of Emily can help."
  @spec report() :: String.t()
  def report, do: "report it: #{Targets.home()}/issues"

  # A configuration of the wrong type is one of the things to report, not a reason to fall over.
  defp variant do
    {:ok, Settings.load().variant}
  rescue
    error in ArgumentError -> {:error, Exception.message(error)}
  end
end
