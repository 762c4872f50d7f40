package ledger

import "github.com/tollkey/tollkey"

// Settle decides on the entries in order of arrival: an entry is admitted only if every balance that it names has enough.
// balances is what the store holds and is changed in place; changed lists the balances that must be written. It is pure otherwise.
func Settle(balances map[tollkey.BalanceID]int64, entries []*Entry) (results []Result, changed map[tollkey.BalanceID]int64) {
	results = make([]Result, len(entries))
	for i, e := range entries {
		results[i] = settle(balances, e.Spends)
		if !results[i].Admitted {
			continue
		}
		for _, s := range e.Spends {
			if s.Amount == 0 {
				continue
			}
			if changed == nil {
				changed = make(map[tollkey.BalanceID]int64, len(balances))
			}
			changed[s.Balance] = balances[s.Balance]
		}
	}
	return results, changed
}

func settle(balances map[tollkey.BalanceID]int64, spends []tollkey.Spend) Result {
	if len(spends) == 0 {
		return Result{Admitted: true}
	}
	r := Result{Admitted: true, Remaining: make([]int64, len(spends))}
	for i, s := range spends {
		have, exists := balances[s.Balance]
		if exists && have >= s.Amount {
			balances[s.Balance] = have - s.Amount
			continue
		}
		r.Admitted, r.Missing = false, !exists
		for _, earlier := range spends[:i] { // all or nothing
			balances[earlier.Balance] += earlier.Amount
		}
		break
	}
	for i, s := range spends {
		r.Remaining[i] = balances[s.Balance]
	}
	return r
}
