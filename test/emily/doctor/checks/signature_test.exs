Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.SignatureTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Cache, Checksum, Keyring, NoReleaseKeyError}
  alias Emily.Doctor.{Checks, Machine, Outcome}

  @moduletag :tmp_dir
  # minisign prints the eight bytes of "emilykey" as one little-endian number.
  @id "79656B796C696D65"

  setup %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    facts = Machine.facts(machine)
    %{selection: %{artifact: artifact}, cache: %{cache: cache}} = facts

    %{
      machine: machine,
      facts: facts,
      archive: Cache.archive(cache, artifact),
      sidecar: Cache.sidecar(cache, artifact),
      signature: Cache.signature(cache, artifact)
    }
  end

  test "follows the key to the archive", %{machine: machine, facts: facts, archive: archive} do
    assert Checks.Signature.run(machine, facts) ==
             Outcome.ok("signed by the key #{@id}")

    File.rm!(archive)

    assert Checks.Signature.run(machine, facts) ==
             Outcome.ok("signed by the key #{@id}")
  end

  test "warns when what is installed is not what the archive holds", context do
    %{machine: machine, facts: facts} = context
    Machine.install(machine.priv, put_in(Machine.manifest().mlx["version"], "0.32.1"))

    assert Checks.Signature.run(machine, facts) ==
             Outcome.warning(
               "signed by the key #{@id}, but another release than the installed one",
               "mix compile.emily --force"
             )
  end

  test "has nothing to say about an empty cache", context do
    %{machine: machine, facts: facts} = context
    for path <- [context.archive, context.sidecar, context.signature], do: File.rm!(path)

    assert Checks.Signature.run(machine, facts) ==
             Outcome.ok("nothing is cached for this variant")
  end

  test "leaves the cache alone where the library is built from source", context do
    %{machine: machine, facts: facts} = context
    keyless = {:error, %NoReleaseKeyError{path: "release/keys.json"}}
    checkout = %{machine | checkout?: true, keyring: keyless}

    # A release that was installed into a checkout is checked like any other.
    assert %Outcome{status: :error} = Checks.Signature.run(checkout, facts)

    File.rm!(Path.join(machine.priv, "manifest.json"))

    assert Checks.Signature.run(checkout, facts) ==
             Outcome.ok("built here from source, nothing was downloaded")
  end

  test "needs the key that the package carries", %{machine: machine, facts: facts} do
    damaged = Keyring.decode("no keys")

    cases = [
      {{:error, %NoReleaseKeyError{path: "release/keys.json"}},
       Outcome.error(
         "this copy of Emily carries no release key, so it installs nothing",
         "build it"
       )},
      {damaged,
       Outcome.error("this copy of Emily carries damaged release keys", "build it",
         details: [
           {"expected", "a list of keys, schema 1"},
           {"actual", ~S("no keys")}
         ]
       )}
    ]

    for {key, expected} <- cases do
      assert Checks.Signature.run(%{machine | keyring: key}, facts) == expected
    end
  end

  test "trusts nothing that the chain does not reach", context do
    %{machine: machine, facts: facts} = context
    {:ok, %{keys: [%{public: key}]}} = machine.keyring
    {other, _secret} = :crypto.generate_key(:eddsa, :ed25519)
    stranger = %{machine | keyring: {:ok, Keyring.of(%{key | bytes: other})}}
    line = File.read!(context.sidecar)
    {:ok, digest} = Checksum.file(context.archive)

    cases = [
      {"another archive", machine, fn -> File.write!(context.archive, "another archive") end,
       [
         {"path", context.archive},
         {"expected", digest},
         {"actual", Checksum.of("another archive")}
       ]},
      {"another checksum", machine,
       fn -> File.write!(context.sidecar, String.replace(line, ~r/^../, "00")) end,
       [
         {"path", context.sidecar},
         {"expected", "a signature of this very file"},
         {"actual", "one that does not match its bytes"}
       ]},
      {"another key", stranger, fn -> File.write!(context.sidecar, line) end,
       [
         {"path", context.sidecar},
         {"expected", "a signature of this very file"},
         {"actual", "one that does not match its bytes"}
       ]},
      {"no signature", machine, fn -> File.rm!(context.signature) end,
       [{"path", context.signature}, {"reason", "no such file or directory"}]},
      {"no checksum", machine, fn -> File.rm!(context.sidecar) end,
       [{"path", context.sidecar}, {"reason", "no such file or directory"}]}
    ]

    for {name, machine, damage, details} <- cases do
      damage.()

      assert Checks.Signature.run(machine, facts) ==
               Outcome.error("what is cached cannot be trusted", "mix compile.emily --force",
                 details: details
               ),
             name
    end
  end
end
